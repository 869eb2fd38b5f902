"""What runs tell by OpenLineage: who loaded what from where, for catalogs that listen to it.

Everything but `naming` and `configured` needs the client library, so it is imported by workers only.
"""

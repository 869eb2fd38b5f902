"""Iceberg tables: catalog, schema and its evolution, data files, append, overwrite, merge."""

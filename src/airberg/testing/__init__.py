"""Contract doubles of services that Airberg talks to, for tests of what is built on it.

Nothing of Airberg itself imports this package.
"""

"""Airberg: one HTTP call turns any Airbyte source into governed Apache Iceberg tables."""

__version__ = "0.1.0"

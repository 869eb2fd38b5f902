"""Connectors: names, installation through PyAirbyte, spec, check, discover, the read process."""

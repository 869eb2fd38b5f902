"""Airbyte messages: fast decode, state, counts, stream status."""

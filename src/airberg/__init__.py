"""Airberg: one HTTP call turns any Airbyte source into governed Apache Iceberg tables."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airberg.reader.read import read_batches as read_batches
    from airberg.reader.read import read_table as read_table

__version__ = "0.1.0"
__all__ = ["__version__", "read_batches", "read_table"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - that is what it is
    # The service and the command line import this package too, and must stay light (PEP 562).
    if name in ("read_batches", "read_table"):
        from airberg.reader import read

        return getattr(read, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""Types of the compiled module; see `native/keys.cpp`."""

from typing_extensions import Buffer

_Column = tuple[str, int, int, Buffer | None, Buffer | None, Buffer | None]

class KeyFilter:
    """A set of keys, by their hashes under a seed."""

    def __init__(self, seed: int) -> None: ...
    def add(self, rows: int, columns: tuple[_Column, ...]) -> None:
        """Take keys."""
    def pick(self, rows: int, columns: tuple[_Column, ...]) -> bytes:
        """Indexes (32 bits each) of the rows whose key may be among those taken."""
    def size(self) -> int:
        """How many different hashes were taken."""

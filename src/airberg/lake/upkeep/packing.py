"""Things in parts of bounded size, in their order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


def packed(items: Iterable[Item], size: Callable[[Item], int], most: int) -> Iterator[tuple[Item, ...]]:
    """Items in parts; each part is as large as it gets without going over a bound.

    Args:
        items: The items; their order stays.
        size: Size of an item, in any unit.
        most: Size of a part, in the same unit. An item that is larger is a part by itself.
    """
    part: list[Item] = []
    held = 0
    for item in items:
        more = size(item)
        if part and held + more > most:
            yield tuple(part)
            part, held = [], 0
        part.append(item)
        held += more
    if part:
        yield tuple(part)

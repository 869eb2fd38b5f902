from typing import TypeAlias

Shape: TypeAlias = tuple[str, str, tuple[Shape, ...]]
TakenDeferred: TypeAlias = tuple[bytes, bytes, bytes, bytes]
TakenColumn: TypeAlias = tuple[
    int, int, bytes | None, tuple[bytes, ...], tuple[TakenColumn, ...], TakenDeferred | None
]

class Reader:
    def __init__(self, streams: tuple[tuple[str, str, tuple[Shape, ...], bool], ...]) -> None: ...
    def feed(self, block: bytes, position: int, ours: bool = False, /) -> tuple[int, int, int]: ...
    def size(self, stream: int, /) -> tuple[int, int]: ...
    def take(
        self, stream: int, /
    ) -> tuple[int, bytes, tuple[TakenColumn, ...], TakenDeferred | None, bytes, bytes]: ...

def uuid7(milliseconds: int, random: bytes, /) -> bytes: ...

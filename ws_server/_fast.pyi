"""The compiled part; see `fast`."""

from collections.abc import Callable

class Line:
    descriptor: int
    plain_limit: int
    unsent: bytes | None

def take(data: bytes, position: int, limit: int, out: list[tuple[int, bytes]]) -> int: ...
def turn(
    epoll: int, owners: list[object | None], other: Callable[[int, int], None],
    failed: Callable[[int, object, Exception], None],
) -> tuple[int, int]: ...

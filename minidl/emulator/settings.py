"""In which order the threads of a block run, and on how many threads of the CPU the blocks."""

from __future__ import annotations

import math
import os
import random
from types import TracebackType

ORDERS = ("forward", "reverse", "random")


class _Setting:
    """What is set, until a `with` that it was made for ends."""

    _name: str

    def __init__(self, value: object) -> None:
        self._before = getattr(current, self._name)
        setattr(current, self._name, value)

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        setattr(current, self._name, self._before)


class order(_Setting):
    """Run the threads of a block, and the blocks of a grid, in this order from now on, or in a `with` block.

    A thread runs until it has to wait for others. What a correct kernel computes does not depend on the order, not even
    in its last digit; where a `__syncthreads()` is missing it does. "random" draws another order at every wait, always
    the same ones for a `seed`.
    """

    _name = "order"

    def __init__(self, name: str, seed: int = 0) -> None:
        if name not in ORDERS:
            raise ValueError(f"emulator.order: name is {name!r}, expected one of {', '.join(ORDERS)}")
        super().__init__((name, seed))


class threads(_Setting):
    """Run the blocks on so many threads of the CPU from now on, or in a `with` block.

    At the start it is what the variable MINIDL_EMULATOR_THREADS says, or else the number of cores, at most 2.
    """

    _name = "threads"

    def __init__(self, count: int) -> None:
        if not isinstance(count, int) or count < 1:
            raise ValueError(f"emulator.threads: count is {count!r}, expected an integer of at least 1")
        super().__init__(count)


class _Current:
    order: tuple[str, int] = ("forward", 0)
    threads: int = int(os.environ.get("MINIDL_EMULATOR_THREADS") or min(2, os.cpu_count() or 1))


current = _Current()


def block_order(count: int) -> tuple[int, int]:
    """Return (first, stride): the i-th block to run is (first + stride·i) modulo their number."""
    name, seed = current.order
    if name == "forward":
        return 0, 1
    if name == "reverse":
        return count - 1, count - 1
    draw = random.Random(seed)
    stride = draw.randrange(1, count + 1)
    while math.gcd(stride, count) != 1:  # or some blocks would run twice, others never
        stride = draw.randrange(1, count + 1)
    return draw.randrange(count), stride

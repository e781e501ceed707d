"""Batches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from minidl import backend


class Loader:
    """Iterates over a dataset in batches (x, y), on the current device.

    Each pass is shuffled anew by `seed` and the number of the pass, and by nothing else: the same seed gives the same
    batches on every machine, and setting `epoch` continues an interrupted run with the batches that it would have had.

    Parameters
    ----------
    x : (N, …) array
    y : (N,) or (N, …) array
    batch_size : int, default 128
    shuffle : bool, default True
    seed : int, default 0
    drop_last : bool, default False
        Whether to leave out a last batch that is not full.

    Attributes
    ----------
    epoch : int
        The number of passes begun so far.

    Raises
    ------
    ValueError, TypeError
        Empty data, different lengths, NaN or infinite values, a batch size below 1, or no full batch with `drop_last`.
    """

    def __init__(
        self, x: Any, y: Any, batch_size: int = 128, shuffle: bool = True, *, seed: int = 0, drop_last: bool = False
    ) -> None:
        self.x, self.y = np.asarray(x), np.asarray(y)
        if not isinstance(batch_size, (int, np.integer)) or isinstance(batch_size, bool) or batch_size < 1:
            raise ValueError(f"Loader: batch_size is {batch_size!r}, expected a positive integer")
        if self.x.ndim == 0 or self.y.ndim == 0 or len(self.x) != len(self.y):
            raise ValueError(f"Loader: x has shape {self.x.shape} and y {self.y.shape}, expected as many of both")
        if len(self.x) == 0:
            raise ValueError("Loader: x is empty, there are no batches to make")
        if drop_last and len(self.x) < batch_size:
            raise ValueError(
                f"Loader: drop_last leaves nothing of {len(self.x)} samples with a batch_size of {batch_size}"
            )
        for name, values in (("x", self.x), ("y", self.y)):
            if values.dtype.kind not in "fiub":
                raise TypeError(f"Loader: {name} has dtype {values.dtype}, expected numbers")
            if values.dtype.kind == "f" and not np.isfinite(values).all():
                first = np.argwhere(~np.isfinite(values))[0].tolist()
                raise ValueError(f"Loader: {name} contains NaN or infinite values, the first at {first}")
        self.batch_size, self.shuffle, self.drop_last = int(batch_size), shuffle, drop_last
        self.seed = backend.check_seed(seed, "Loader")
        self.epoch = 0

    def __len__(self) -> int:
        full, rest = divmod(len(self.x), self.batch_size)
        return full + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        order = np.arange(len(self.x))
        if self.shuffle:
            np.random.default_rng([self.seed, self.epoch]).shuffle(order)
        self.epoch += 1
        for i in range(len(self)):
            rows = order[i * self.batch_size : (i + 1) * self.batch_size]
            yield backend.asarray(self.x[rows]), backend.asarray(self.y[rows])

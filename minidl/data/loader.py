"""Batches."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from minidl import backend

SAMPLED_BYTES = 500_000  # of x and of y, for the checksum
Augment = Callable[[Any, np.random.Generator], Any]


class Loader:
    """Iterates over a dataset in batches (x, y), on the current device.

    Each pass is shuffled anew by `seed` and the number of the pass, and by nothing else: the same seed gives the same
    batches on every machine, and setting `epoch` continues an interrupted run with the batches that it would have had;
    `rest` does so in the middle of a pass.

    Parameters
    ----------
    x : (N, …) array
        Given to the model as it is, whatever the dtype: of images of the type uint8, 0…255, make
        ``x.astype(np.float32) / 255`` first, or here by `augment`.
    y : (N,) or (N, …) array
    batch_size : int, default 128
    shuffle : bool, default True
    seed : int, default 0
    drop_last : bool, default False
        Whether to leave out a last batch that is not full.
    augment : callable, optional
        Called as `augment(x, generator)` with the inputs of every batch: an array (B, …) on the current device, which
        it may change, and a NumPy generator, seeded by `seed`, the number of the pass and that of the batch, and by
        nothing else, so that it does not matter what was drawn before. It returns the inputs to use instead: B of them,
        on the same device, of the same dtype if that is floating-point; their shape may be another.

    Attributes
    ----------
    epoch : int
        The number of passes begun so far.

    Raises
    ------
    ValueError, TypeError
        Empty data, different lengths, NaN or infinite values, a batch size below 1, or no full batch with `drop_last`.

    Examples
    --------
    >>> def noise(x, generator):
    ...     return x + 0.1 * generator.standard_normal(x.shape, dtype=np.float32)
    >>> train = data.Loader(x, y, batch_size=64, augment=noise)
    """

    def __init__(
        self,
        x: Any,
        y: Any,
        batch_size: int = 128,
        shuffle: bool = True,
        *,
        seed: int = 0,
        drop_last: bool = False,
        augment: Augment | None = None,
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
        if augment is not None and not callable(augment):
            raise TypeError(f"Loader: augment is {augment!r}, expected a callable")
        self.augment = augment
        self.seed = backend.check_seed(seed, "Loader")
        self.epoch = 0

    def __len__(self) -> int:
        full, rest = divmod(len(self.x), self.batch_size)
        return full + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        self.epoch += 1
        yield from self.rest(0)

    def rest(self, done: int) -> Iterator[tuple[Any, Any]]:
        """Go on in the pass that was begun last, after its first `done` batches, which are not loaded again."""
        if not isinstance(done, (int, np.integer)) or not 0 <= done <= len(self):
            raise ValueError(f"Loader.rest: done is {done!r}, expected an integer from 0 to {len(self)}")
        if self.epoch < 1:
            raise ValueError("Loader.rest: no pass was begun")
        return self._from(int(done), self.epoch - 1)

    def _from(self, first: int, epoch: int) -> Iterator[tuple[Any, Any]]:
        order = np.arange(len(self.x))
        if self.shuffle:
            np.random.default_rng([self.seed, epoch]).shuffle(order)
        for i in range(first, len(self)):
            rows = order[i * self.batch_size : (i + 1) * self.batch_size]
            x, y = backend.asarray(self.x[rows]), backend.asarray(self.y[rows])
            yield (x if self.augment is None else self._augmented(x, epoch, i)), y

    def _augmented(self, x: Any, epoch: int, batch: int) -> Any:
        seeds = np.random.SeedSequence(self.seed, spawn_key=(epoch, batch))  # apart from that of the shuffling
        count, dtype = len(x), x.dtype
        made = self.augment(x, np.random.default_rng(seeds))  # type: ignore[misc]
        if isinstance(made, (tuple, list)):  # or a pair (x, y) would pass for two samples
            raise TypeError(f"Loader: augment returned a {type(made).__name__}, expected an array, the inputs alone")
        x = backend.asarray(made)
        if x.ndim == 0 or len(x) != count:
            raise ValueError(f"Loader: augment returned the shape {x.shape}, expected {count} samples, as it was given")
        if dtype.kind == "f" and x.dtype != dtype:
            raise TypeError(f"Loader: augment returned {x.dtype}, expected the dtype that it was given, {dtype}")
        return x

    # -- saving and loading

    def state_dict(self) -> dict[str, Any]:
        """Return the passes begun so far, and what the batches depend on; of the data shape, dtype and a checksum.

        The checksum is of up to about 1 MB of the data, in rows spread evenly, and made once: it tells other data, not
        every single changed value. What `augment` does is not known.
        """
        return {"epoch": self.epoch, "data": self._fingerprint, "augment": self.augment is not None} | {
            name: getattr(self, name) for name in ("batch_size", "shuffle", "drop_last", "seed")
        }

    @functools.cached_property
    def _fingerprint(self) -> str:
        crc = 0
        for values in (self.x, self.y):
            rows = max(1, min(len(values), len(values) * SAMPLED_BYTES // max(1, values.nbytes)))
            spread = np.linspace(0, len(values) - 1, rows).astype(int)
            crc = zlib.crc32(values[spread].tobytes(), crc)
        shapes = " and ".join(f"{values.dtype} {values.shape}" for values in (self.x, self.y))
        return f"{shapes} with the checksum {crc:08x}"

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with the pass that comes next in what `state_dict` returned.

        Raises
        ------
        ValueError
            Naming every setting that is another one, so that the batches would be others.
        """
        own = self.state_dict()
        if not isinstance(state, dict) or state.keys() != own.keys():
            raise ValueError(f"Loader.load_state_dict: the state is {state!r}, expected the entries {list(own)}")
        differ = [name for name in own if name != "epoch" and own[name] != state[name]]
        if differ:
            wrong = ", ".join(f"{name} is {own[name]}, in the state {state[name]}" for name in differ)
            raise ValueError(f"Loader.load_state_dict: the batches would be others: {wrong}")
        if not isinstance(state["epoch"], int) or state["epoch"] < 0:
            raise ValueError(f"Loader.load_state_dict: epoch is {state['epoch']!r}, expected a non-negative integer")
        self.epoch = state["epoch"]

"""Batches."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from minidl import backend
from minidl.data.generator import SampleGenerator
from minidl.data.prefetching import one_ahead

SAMPLED_BYTES = 500_000  # of x and of y, for the checksum
Augment = Callable[[Any, Any], Any]
Blend = Callable[[Any, Any, Any], tuple[Any, Any]]
Batch = tuple[Any, Any]


class Loader:
    """Iterates over a dataset in batches (x, y), on the current device.

    Each pass is shuffled anew by `seed` and the number of the pass, and by nothing else: the same seed gives the same
    batches on every machine, and setting `epoch` continues an interrupted run with the batches that it would have had;
    `rest` does so in the middle of a pass.

    Parameters
    ----------
    x : (N, …) array
        Images of the type uint8, 0…255, become float32 in [0, 1], batch by batch: x / 255. So does everything of this
        type that has more than one axis. The rest is given to the model as it is.
    y : (N,) or (N, …) array
        Likewise, for images that are to be drawn again.
    batch_size : int, default 128
    shuffle : bool, default True
    seed : int, default 0
    drop_last : bool, default False
        Whether to leave out a last batch that is not full.
    augment : callable, optional
        Called as `augment(x, generator)` with the inputs of every batch: an array (B, …) on the current device, which
        it may change, and a `SampleGenerator`, from which each sample gets numbers that depend on `seed`, the number of
        the pass and the sample's index, and on nothing else. It returns the inputs to use instead: B of them, on the
        same device, of the same dtype if that is floating-point; their shape may be another. See `data.augment`.
    blend : callable, optional
        Called after `augment` as `blend(x, y, generator)`, for what changes the labels too: it returns both. See
        `data.augment.mixup`.
    prefetch : bool, default True
        Whether a thread makes the next batch while the model works on this one. The batches are the same, and an error
        is raised where that batch is asked for. Without `augment` and `blend` there is little to do, and no thread.
    resident : bool, default False
        Whether all of x and y is moved to the current device once, where batches are then picked, instead of each batch
        when its turn comes. On the CPU that makes no difference.

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
    >>> from minidl.data import augment
    >>> train = data.Loader(x, y, 64, augment=augment.compose(augment.crop(4), augment.flip()))

    or, with a function of one's own,

    >>> def noise(x, generator):
    ...     return x + 0.1 * generator.standard_normal(x.shape, dtype=np.float32)
    >>> train = data.Loader(x, y, 64, augment=noise)
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
        blend: Blend | None = None,
        prefetch: bool = True,
        resident: bool = False,
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
        for name, change in (("augment", augment), ("blend", blend)):
            if change is not None and not callable(change):
                raise TypeError(f"Loader: {name} is {change!r}, expected a callable")
        self.augment, self.blend, self.prefetch = augment, blend, prefetch
        self.resident = resident
        self._moved: dict[str, Batch] = {}
        self.seed = backend.check_seed(seed, "Loader")
        self.epoch = 0

    def __len__(self) -> int:
        full, rest = divmod(len(self.x), self.batch_size)
        return full + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[Batch]:
        self.epoch += 1
        yield from self.rest(0)

    def rest(self, done: int) -> Iterator[Batch]:
        """Go on in the pass that was begun last, after its first `done` batches, which are not loaded again."""
        if not isinstance(done, (int, np.integer)) or not 0 <= done <= len(self):
            raise ValueError(f"Loader.rest: done is {done!r}, expected an integer from 0 to {len(self)}")
        if self.epoch < 1:
            raise ValueError("Loader.rest: no pass was begun")
        return self._from(int(done), self.epoch - 1)

    def _from(self, first: int, epoch: int) -> Iterator[Batch]:
        order = np.arange(len(self.x))
        if self.shuffle:
            np.random.default_rng([self.seed, epoch]).shuffle(order)

        def make(i: int) -> Batch:
            rows = order[i * self.batch_size : (i + 1) * self.batch_size]
            if not changing:
                return self._batch(rows, epoch)
            with backend.seeded([self.seed, epoch, i]):  # for changes that draw from the thread's own generator
                return self._batch(rows, epoch)

        places = range(first, len(self))
        changing = self.augment is not None or self.blend is not None
        return one_ahead(make, places) if self.prefetch and changing else (make(i) for i in places)

    def _batch(self, rows: Any, epoch: int) -> Batch:
        x, y = (_as_floats(values) for values in self._picked(rows))
        generator = SampleGenerator(self.seed, epoch, rows)
        if self.augment is not None:
            made = self.augment(x, generator)
            if isinstance(made, (tuple, list)):  # or a pair (x, y) would pass for two samples
                kind = type(made).__name__
                raise TypeError(f"Loader: augment returned a {kind}, expected an array, the inputs alone; see blend")
            x = _checked("augment", made, x)
        if self.blend is not None:
            pair = self.blend(x, y, generator)
            if not isinstance(pair, tuple) or len(pair) != 2:
                raise TypeError(f"Loader: blend returned a {type(pair).__name__}, expected a pair (x, y)")
            x, y = _checked("blend", pair[0], x), _checked("blend", pair[1], y)
        return x, y

    def _picked(self, rows: Any) -> Batch:
        """Return some samples on the current device."""
        device = backend.device()
        if not self.resident or device == "cpu":
            return backend.asarray(self.x[rows]), backend.asarray(self.y[rows])
        if device not in self._moved:
            self._moved[device] = backend.asarray(self.x), backend.asarray(self.y)
        x, y = self._moved[device]
        rows = backend.asarray(rows)
        return x[rows], y[rows]

    # -- saving and loading

    def state_dict(self) -> dict[str, Any]:
        """Return the passes begun so far, and what the batches depend on; of the data shape, dtype and a checksum.

        The checksum is of up to about 1 MB of the data, in rows spread evenly, and made once: it tells other data, not
        every single changed value. What `augment` and `blend` do is not known.
        """
        changes = {"augment": self.augment is not None, "blend": self.blend is not None}
        settings = {name: getattr(self, name) for name in ("batch_size", "shuffle", "drop_last", "seed")}
        return {"epoch": self.epoch, "data": self._fingerprint} | changes | settings

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


def _as_floats(values: Any) -> Any:
    """Return images of bytes as float32 in [0, 1]."""
    return values / np.float32(255) if values.dtype == np.uint8 and values.ndim > 1 else values


def _checked(who: str, made: Any, given: Any) -> Any:
    """Return what `augment` or `blend` made of an array, on the current device, if it can stand for it."""
    made = backend.asarray(made)
    if made.ndim == 0 or len(made) != len(given):
        raise ValueError(
            f"Loader: {who} returned the shape {made.shape}, expected {len(given)} samples, as it was given"
        )
    if given.dtype.kind == "f" and made.dtype != given.dtype:
        raise TypeError(f"Loader: {who} returned {made.dtype}, expected the dtype that it was given, {given.dtype}")
    return made

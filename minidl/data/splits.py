"""Splitting samples for validation: indices only, so that they serve images, labels and anything else in rows.

Every splitter takes nothing but counts or labels, and gives pairs (training indices, held-out indices), both sorted.
Those that give several pairs return `Splits`, which makes a pair when it is asked for.

>>> for train, held in data.splits.k_fold(6, 3, seed=None):
...     print(train, held)
[2 3 4 5] [0 1]
[0 1 4 5] [2 3]
[0 1 2 3] [4 5]
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from minidl.backend import check_seed

__all__ = [
    "Splits",
    "hold_out",
    "k_fold",
    "leave_one_out",
    "leave_p_out",
    "repeated",
    "stratified",
    "stratified_k_fold",
]


@dataclass(frozen=True)
class Splits:
    """Several splits of the same samples; iterate over it, as often as you like, for pairs (training, held out).

    Attributes
    ----------
    kind : str
        The splitter's name.
    samples : int
        How many samples are split: the indices are 0 … samples − 1.
    number : int
        How many pairs there are. `len` gives it too, up to 2⁶³ − 1, which `leave_p_out` can exceed.
    """

    kind: str
    samples: int
    number: int
    held_out: Callable[[], Iterable[Any]] = field(repr=False)  # makes the held-out parts anew

    def __repr__(self) -> str:  # of a number that may have more digits than Python writes
        return f"{self.kind} of {self.samples:,} samples"

    def __bool__(self) -> bool:
        return True

    def __len__(self) -> int:
        return self.number

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        for held in self.held_out():
            others = np.ones(self.samples, bool)
            others[held] = False
            yield np.flatnonzero(others), np.sort(held)


def hold_out(count: int, fraction: float = 0.3, *, seed: int = 0) -> tuple[Any, Any]:
    """Split the indices 0 … count − 1 at random into (training, held out).

    Parameters
    ----------
    count : int
        The number of samples, at least 2.
    fraction : float in (0, 1), default 0.3
        How many are held out, rounded, but at least one on each side. N §1.2.2.
    seed : int, default 0

    Returns
    -------
    Two sorted arrays of indices.

    Examples
    --------
    >>> train, held = data.splits.hold_out(10, 0.3)
    >>> len(train), len(held)
    (7, 3)
    """
    held = _held_count(count, fraction, "hold_out")
    order = np.random.default_rng(check_seed(seed, "hold_out")).permutation(count)
    return np.sort(order[held:]), np.sort(order[:held])


def repeated(count: int, repeats: int = 10, fraction: float = 0.3, *, seed: int = 0) -> Splits:
    """Repeated random sub-sampling: hold out a part at random, again and again. N §1.2.2.

    Other than in `k_fold`, a sample may be held out several times, or never.

    Parameters
    ----------
    count : int
        The number of samples, at least 2.
    repeats : int, default 10
    fraction : float in (0, 1), default 0.3
        How many are held out each time, rounded, but at least one on each side.
    seed : int, default 0
        The i-th split depends on the seed and on i alone, so that more repeats begin with the same ones.
    """
    held = _held_count(count, fraction, "repeated")
    check_seed(seed, "repeated")
    _integer(repeats, 1, "repeated", "repeats")

    def parts() -> Iterator[Any]:
        return (np.random.default_rng([seed, i]).permutation(count)[:held] for i in range(repeats))

    return Splits("repeated", int(count), int(repeats), parts)


def k_fold(count: int, k: int = 10, *, seed: int | None = 0) -> Splits:
    """Cut the samples into k folds of equal size, up to one, each of which is held out once. N §1.2.2.

    Parameters
    ----------
    count : int
        The number of samples, at least k.
    k : int of at least 2, default 10
    seed : int or None, default 0
        Of the order in which the samples are dealt to the folds. None keeps the order as it is: the folds are then
        successive stretches, those of scikit-learn's `KFold`; do not do so with samples that are sorted by class.
    """
    order = _order(count, k, seed, "k_fold")
    return Splits("k_fold", len(order), int(k), lambda: np.array_split(order, k))


def stratified_k_fold(labels: Any, k: int = 10, *, seed: int | None = 0) -> Splits:
    """Cut the samples into k folds that each hold the classes in the same proportions: "balanced". N §1.2.2.

    The folds' sizes differ by one at most, and so do the numbers of a class's samples in them.

    Parameters
    ----------
    labels : (N,) integers or strings
    k : int of at least 2, default 10
    seed : int or None, default 0
        Of the order in which the samples are dealt to the folds; None keeps the order as it is, which gives the folds
        of scikit-learn's `StratifiedKFold`.

    Raises
    ------
    ValueError
        If no class has k samples.

    Warns
    -----
    UserWarning
        If some class has fewer than k samples, so that some folds have none of it.

    Examples
    --------
    >>> labels = np.array([0] * 6 + [1] * 3)
    >>> for train, held in data.splits.stratified_k_fold(labels, 3):
    ...     print(np.bincount(labels[held]))
    [2 1]
    [2 1]
    [2 1]
    """
    who = "stratified_k_fold"
    labels = _labels(labels, who)
    order = _order(len(labels), k, seed, who)
    names, first, inverse, sizes = np.unique(labels[order], return_index=True, return_inverse=True, return_counts=True)
    rare = int(sizes.argmin())
    if sizes.max() < k:
        raise ValueError(f"{who}: k is {k}, but no class has more than {sizes.max()} samples")
    if sizes[rare] < k:
        warnings.warn(
            f"{who}: class {names[rare]} has {sizes[rare]} samples, so that some of the {k} folds have none of it",
            stacklevel=2,
        )
    # Deal the samples, sorted by class, to the folds in turn: so many of each class belong in each fold. Classes stand
    # in the order in which they appear, which decides where those go that are left over.
    place = np.argsort(np.argsort(first))[inverse]
    dealt = np.sort(place)
    fold = np.empty(len(order), int)
    for c in range(len(names)):
        shares = [np.count_nonzero(dealt[i::k] == c) for i in range(k)]
        fold[place == c] = np.repeat(np.arange(k), shares)
    return Splits(who, len(order), int(k), lambda: (order[fold == i] for i in range(k)))


def leave_p_out(count: int, p: int) -> Splits:
    """Hold out every set of p samples: count! / (p! (count − p)!) splits. N §1.2.2.

    In lexicographic order, each made when it is asked for. There are very many: 4,950 for two of 100, and
    17 million million for ten.

    Parameters
    ----------
    count : int
        The number of samples, more than p.
    p : int
    """
    _integer(p, 1, "leave_p_out", "p")
    _integer(count, p + 1, "leave_p_out", "count")

    def parts() -> Iterator[Any]:
        return (np.array(held) for held in itertools.combinations(range(count), p))

    return Splits("leave_p_out", int(count), math.comb(count, p), parts)


def leave_one_out(count: int) -> Splits:
    """Hold out each sample once: as many splits as samples. N §1.2.2.

    Parameters
    ----------
    count : int
        The number of samples, at least 2.
    """
    _integer(count, 2, "leave_one_out", "count")
    return Splits("leave_one_out", int(count), int(count), lambda: np.arange(count)[:, None])


def stratified(labels: Any, fraction: float, *, seed: int = 0) -> Any:
    """Pick a part of the samples that holds the classes in the same proportions.

    Each class gives every (1 / fraction)-th of its samples, in a random order and from a random start: so many as the
    fraction says, up to one; where many classes are rare, the common ones give or take a few, and a class of a single
    sample is in the part as often as it should be. The parts of one seed are nested: the quarter contains the eighth.

    Parameters
    ----------
    labels : (N,) integers or strings
    fraction : float in (0, 1]
        The size of the part is that of all times this, rounded.
    seed : int, default 0

    Returns
    -------
    A sorted array of indices.

    Raises
    ------
    ValueError
        If the part would be empty.
    """
    labels = _labels(labels, "stratified")
    if not isinstance(fraction, (int, float, np.floating)) or not 0 < fraction <= 1:
        raise ValueError(f"stratified: fraction is {fraction!r}, expected a number above 0 and at most 1")
    size = round(len(labels) * fraction)
    if size == 0:
        raise ValueError(f"stratified: fraction is {fraction}, which leaves nothing of {len(labels)} samples")
    generator = np.random.default_rng(check_seed(seed, "stratified"))
    order = generator.permutation(len(labels))
    _, inverse, sizes = np.unique(labels[order], return_inverse=True, return_counts=True)
    rank = np.empty(len(order))  # of each sample within its class
    rank[np.argsort(inverse, kind="stable")] = np.concatenate([np.arange(n) for n in sizes])
    start = generator.random(len(sizes))  # in [0, 1), one for each class
    position = (rank + start[inverse]) / sizes[inverse]
    return np.sort(order[np.argsort(position, kind="stable")[:size]])


# ---------------------------------------------------------------- checks


def _integer(value: Any, least: int, who: str, name: str) -> None:
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < least:
        raise ValueError(f"{who}: {name} is {value!r:.60}, expected an integer of at least {least}")


def _held_count(count: int, fraction: float, who: str) -> int:
    _integer(count, 2, who, "count")
    if not isinstance(fraction, (int, float, np.floating)) or not 0 < fraction < 1:
        raise ValueError(f"{who}: fraction is {fraction!r}, expected a number between 0 and 1")
    return min(max(1, round(count * fraction)), count - 1)


def _order(count: int, k: int, seed: int | None, who: str) -> Any:
    """Return the order in which the samples are dealt to k folds."""
    _integer(k, 2, who, "k")
    _integer(count, 1, who, "count")
    if count < k:
        raise ValueError(f"{who}: there are {count} samples, expected at least one for each of {k} folds")
    if seed is None:
        return np.arange(count)
    return np.random.default_rng(check_seed(seed, who)).permutation(count)


def _labels(labels: Any, who: str) -> Any:
    labels = np.asarray(labels)
    if labels.dtype == object and all(isinstance(label, str) for label in labels.flat):
        labels = labels.astype(str)
    if labels.ndim != 1 or not len(labels) or labels.dtype.kind not in "iubUS":
        raise ValueError(
            f"{who}: labels have shape {labels.shape} and dtype {labels.dtype}, expected integers or strings (N,), "
            "not empty"
        )
    return labels

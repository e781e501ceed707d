"""Finding images that a data set holds more than once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

import numpy as np

from minidl import tables
from minidl.backend import to_numpy

CELL = 4  # pixels: the images are compared first by the means of squares of this side
BLOCK = 2048  # images in a block of the comparison: 16 MB for two of them
MOST_PAIRS = 5_000_000
ROWS = 20  # of groups that the report shows


@dataclass(frozen=True, eq=False)
class Duplicates:
    """The result of `duplicates`; printed, it is a report.

    Attributes
    ----------
    count : int
        How many images were searched.
    groups : list of arrays
        The indices of images that are the same or nearly so, at least two in a group, each group in ascending order, as
        are the groups by their first. Within a group each image is like some other one, not necessarily like all.
    exact : list of bool
        For each group whether its images are equal in every byte.
    similarity : list of float
        For each group the least correlation between two of its images that were found alike; 1 in an exact one.
    labels : array or None
        Those that were given.
    """

    count: int
    groups: list[Any]
    exact: list[bool]
    similarity: list[float]
    labels: Any = field(default=None, repr=False)

    @property
    def surplus(self) -> Any:
        """The indices of all but the first image of every group, in ascending order: what could be removed."""
        return np.sort(np.concatenate([group[1:] for group in self.groups] or [np.arange(0)]))

    @property
    def kept(self) -> Any:
        """The indices of all others, in ascending order."""
        return np.setdiff1d(np.arange(self.count), self.surplus)

    @property
    def conflicts(self) -> list[int]:
        """The numbers of the groups whose images have different labels; empty if no labels were given."""
        if self.labels is None:
            return []
        return [i for i, group in enumerate(self.groups) if len(set(self.labels[group].tolist())) > 1]

    def __str__(self) -> str:
        """Return the numbers found, and the groups: the first twenty, those with different labels before the others."""
        conflicts = self.conflicts
        numbers = f"{len(self.groups)} groups, {sum(self.exact)} of them exact"
        title = f"duplicates among {self.count:,} images: {numbers}, {len(self.surplus)} images too many"
        order = [*conflicts, *(i for i in range(len(self.groups)) if i not in set(conflicts))]
        rows = []
        for i in order[:ROWS]:
            indices = ", ".join(map(str, self.groups[i][:8])) + (", …" if len(self.groups[i]) > 8 else "")
            labels = [] if self.labels is None else dict.fromkeys(self.labels[self.groups[i]].tolist())
            likeness = "exact" if self.exact[i] else f"{self.similarity[i]:.4f}"
            rows.append((indices, ", ".join(map(str, labels)), likeness))
        caption = f"{len(conflicts)} groups have different labels" if conflicts else ""
        headings = ("images", "labels", "correlation")
        return tables.as_text(title, headings, rows, more=len(order) - len(rows), caption=caption)


def duplicates(x: Any, labels: Any = None, *, similarity: float = 0.99) -> Duplicates:
    r"""Find images that are equal, and pairs of different ones whose pixels correlate.

    .. math:: \rho(a, b) = \frac{\sum_i (a_i - \bar a)(b_i - \bar b)}
                                {\sqrt{\sum_i (a_i - \bar a)^2 \sum_i (b_i - \bar b)^2}}

    over all pixels and channels, so that another brightness or contrast makes no difference. Every pair with
    :math:`\rho \ge` `similarity` is found, and none below it.

    Parameters
    ----------
    x : (N, H, W, C) array, uint8 or floating-point
        To find what training and test images share, give both in a row; the groups with indices on both sides of the
        seam are the leaks.
    labels : (N,) array, optional
        For `conflicts`, images that are alike and labelled differently.
    similarity : float in (0, 1], default 0.99
        The least correlation; 1 finds only images that are equal in every byte. For digits on a black ground, where
        different images may correlate highly, take more than for photographs.

    Returns
    -------
    Duplicates

    Raises
    ------
    ValueError
        If more than five million pairs are found: take a higher similarity.

    Notes
    -----
    Equal images are found by their digests (BLAKE2b, 128 bits). The others, of which one of each group is compared, are
    scaled to mean 0 and norm 1, and compared first by the means over squares of 4 × 4 pixels and the norm of what these
    leave out. That difference is never larger than the difference of the images, whose square is :math:`2 - 2 \rho`, so
    only pairs that pass are compared in full. Blocks of images meet in matrix products: time grows with N², about
    20 s for the 60,000 images of CIFAR-10 on two cores, memory with N. Images of a single colour are like none but
    equal ones.

    Examples
    --------
    >>> twins = data.duplicates(np.concatenate([x, x[:3]]), np.concatenate([y, y[:3]]))
    >>> len(twins.surplus)
    3
    """
    x = np.asarray(to_numpy(x))
    if x.dtype.kind not in "fu":
        raise TypeError(f"duplicates: x has dtype {x.dtype}, expected uint8 or floating-point numbers")
    if x.ndim != 4 or not x.size:
        raise ValueError(f"duplicates: x has shape {x.shape}, expected images (N, H, W, C)")
    if x.dtype.kind == "f" and not np.isfinite(x).all():
        raise ValueError("duplicates: x contains NaN or infinite values")
    if labels is not None:
        labels = np.asarray(to_numpy(labels))
        if labels.shape != x.shape[:1]:
            raise ValueError(f"duplicates: labels have shape {labels.shape}, expected {x.shape[:1]}")
    if not isinstance(similarity, Real) or isinstance(similarity, bool):
        raise TypeError(f"duplicates: similarity is {similarity!r}, expected a number")
    if not 0 < similarity <= 1:
        raise ValueError(f"duplicates: similarity is {similarity!r}, expected a number in (0, 1]")
    twin = _equal(x)  # for each image the first one that equals it
    links = [np.stack([twin, np.arange(len(x))], axis=1)[twin < np.arange(len(x))]]
    values = [np.ones(len(links[0]))]
    if similarity < 1:
        found = 0
        for pairs, correlations in _alike(x, np.unique(twin), similarity):
            links.append(pairs)
            values.append(correlations)
            found += len(pairs)
            if found > MOST_PAIRS:
                raise ValueError(
                    f"duplicates: more than {MOST_PAIRS:,} pairs correlate by {similarity}; take a higher similarity"
                )
    return _grouped(len(x), np.concatenate(links), np.concatenate(values), twin, labels)


def _equal(x: Any) -> Any:
    """Return for each image the index of the first one with the same bytes."""
    first: dict[bytes, int] = {}
    return np.array([first.setdefault(_digest(image), i) for i, image in enumerate(x)])


def _digest(image: Any) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16).digest()


def _alike(x: Any, among: Any, similarity: float) -> Iterator[tuple[Any, Any]]:
    """Yield pairs of indices among these with at least this correlation, and the correlations, block by block."""
    features = np.concatenate([_features(_scaled(x[rows])) for rows in _blocks(among)])
    half = np.einsum("ij,ij->i", features, features)[:, None] / 2
    ones = np.ones_like(half)
    left_side, right_side = np.hstack([features, half, ones]), np.hstack([features, -ones, -half])
    least = similarity - 1 - 1e-4  # of left · right = −|a − b|² / 2, less the rounding of the products in float32
    starts = range(0, len(among), BLOCK)
    for i in starts:
        a = slice(i, i + BLOCK)
        for j in starts[i // BLOCK :]:
            b = slice(j, j + BLOCK)
            left, right = np.nonzero(left_side[a] @ right_side[b].T >= least)
            later = left + i < right + j
            left, right = among[left[later] + i], among[right[later] + j]
            for part in range(0, len(left), BLOCK):
                pairs = np.stack([left[part : part + BLOCK], right[part : part + BLOCK]], axis=1)
                correlations = np.einsum("ij,ij->i", *(_scaled(x[side]).reshape(len(side), -1) for side in pairs.T))
                enough = correlations >= similarity
                if enough.any():
                    yield pairs[enough], correlations[enough]


def _blocks(rows: Any) -> Iterator[Any]:
    return (rows[start : start + BLOCK] for start in range(0, len(rows), BLOCK))


def _scaled(x: Any) -> Any:
    """Return images with mean 0 and sum of squares 1; those of a single colour are 0."""
    flat = x.reshape(len(x), -1).astype(np.float64)
    flat -= flat.mean(axis=1, keepdims=True)
    norm = np.linalg.norm(flat, axis=1, keepdims=True)
    flat /= np.where(norm > 1e-9 * max(1, flat.shape[1]) ** 0.5, norm, np.inf)
    return flat.reshape(x.shape)


def _features(images: Any) -> Any:
    """Return vectors (N, D) float32 whose differences are never larger than those of the images.

    They are the images' projection onto squares of constant colour, and the norm of what the projection leaves out.
    """
    count, height, width = images.shape[:3]
    rows, columns = np.arange(0, height, CELL), np.arange(0, width, CELL)
    sums = np.add.reduceat(np.add.reduceat(images, rows, axis=1), columns, axis=2)
    areas = np.outer(np.diff(rows, append=height), np.diff(columns, append=width))
    projected = (sums / np.sqrt(areas)[..., None]).reshape(count, -1)
    whole = np.einsum("nhwc,nhwc->n", images, images)
    rest = np.sqrt(np.maximum(0, whole - np.einsum("ij,ij->i", projected, projected)))
    return np.concatenate([projected, rest[:, None]], axis=1).astype(np.float32)


def _grouped(count: int, links: Any, values: Any, twin: Any, labels: Any) -> Duplicates:
    """Return the connected groups of the linked images."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    _, group_of = connected_components(coo_array((np.ones(len(links)), links.T), shape=(count, count)), directed=False)
    least = np.ones(count)
    np.minimum.at(least, group_of[links[:, 0]], values)
    order = np.argsort(group_of, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(group_of[order])) + 1)
    groups = sorted((group for group in groups if len(group) > 1), key=lambda group: group[0])
    exact = [bool((twin[group] == twin[group[0]]).all()) for group in groups]
    return Duplicates(count, groups, exact, [float(least[group_of[group[0]]]) for group in groups], labels)

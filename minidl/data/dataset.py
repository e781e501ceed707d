"""Datasets by name: what `data.load` returns and where it looks."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from minidl import memory
from minidl.backend import check_seed
from minidl.data import checks, cifar, digits, fetching, idx, places, splits, svhn
from minidl.data.sources import DIGITS, NAMES, SOURCES

MOST_CLASSES = 1000  # that are made without names for them, unless there are images enough
READERS = {"idx": idx.load, "cifar": cifar.load, "svhn": svhn.load}


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images and labels, for training and for testing.

    Attributes
    ----------
    train_x, test_x : (N, H, W, C) uint8 from 0 to 255, or floats in [0, 1]
        `data.Loader` makes floats of bytes, batch by batch: they take a quarter of the memory.
    train_y, test_y : (N,) int64 class indices
    classes : tuple of str
        The classes' names, in the order of their indices.

    Raises
    ------
    ValueError, TypeError
        If there are not as many labels as images, if a label is not the index of a class, if there are no images, NaN,
        infinite values or floats outside [0, 1], if the images for testing have another shape or type than those for
        training.
    """

    train_x: Any = field(repr=False)
    train_y: Any = field(repr=False)
    test_x: Any = field(repr=False)
    test_y: Any = field(repr=False)
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        classes = tuple(str(name) for name in self.classes)
        object.__setattr__(self, "classes", classes)
        for part in ("train", "test"):
            x = checks.images(getattr(self, f"{part}_x"), f"Dataset: {part}_x")
            y = checks.labels(getattr(self, f"{part}_y"), len(classes), f"Dataset: {part}_y")
            if len(x) != len(y):
                raise ValueError(f"Dataset: {part}_x holds {len(x):,} images, but {part}_y {len(y):,} labels")
            object.__setattr__(self, f"{part}_x", x)
            object.__setattr__(self, f"{part}_y", y)
        train, test = self.train_x, self.test_x
        if (train.shape[1:], train.dtype) != (test.shape[1:], test.dtype):
            raise ValueError(
                f"Dataset: test_x holds {test.dtype} images of the shape {test.shape[1:]}, train_x {train.dtype} of "
                f"{train.shape[1:]}"
            )

    def subset(self, fraction: float, seed: int = 0) -> Dataset:
        """Return a dataset with a part of the training images, which holds the classes in the same proportions.

        Those of one seed are nested: an eighth is contained in the quarter. All images for testing stay.

        Examples
        --------
        >>> digits = data.load("digits")
        >>> quarter, eighth = digits.subset(1 / 4), digits.subset(1 / 8)
        >>> len(digits.train_x), len(quarter.train_x), len(eighth.train_x)
        (1442, 360, 180)
        """
        _check_fraction(fraction, "Dataset.subset")
        rows = splits.stratified(self.train_y, fraction, seed=seed)
        return Dataset(self.train_x[rows], self.train_y[rows], self.test_x, self.test_y, self.classes)

    def astype(self, dtype: Any) -> Dataset:
        """Return a dataset whose images have this type: bytes divided by 255 become floats in [0, 1].

        Raises
        ------
        TypeError
            If `dtype` is neither uint8 nor floating-point, or if floats are to become bytes.
        MemoryError
            If the new images would not fit into memory.
        """
        dtype = np.dtype(dtype)
        if dtype == self.train_x.dtype:
            return self
        if dtype.kind != "f":
            raise TypeError(
                f"Dataset.astype: dtype is {dtype}, expected a floating-point type for {self.train_x.dtype}"
            )
        memory.require((self.train_x.size + self.test_x.size) * dtype.itemsize, "Dataset.astype", f"images as {dtype}")
        return Dataset(_cast(self.train_x, dtype), self.train_y, _cast(self.test_x, dtype), self.test_y, self.classes)


def _cast(x: Any, dtype: Any) -> Any:
    return np.divide(x, dtype.type(255), dtype=dtype) if x.dtype == np.uint8 else x.astype(dtype)


def load(
    name: str,
    root: str | os.PathLike[str] | None = None,
    *,
    size: int | None = None,
    fraction: float = 1,
    seed: int = 0,
    dtype: Any = np.uint8,
) -> Dataset:
    """Load a dataset by its name.

    Parameters
    ----------
    name : {"digits", "mnist", "fashion-mnist", "cifar10", "cifar100", "svhn"}
        "digits" is embedded in the package: the UCI optical digits (`data.digits`). The others are read from their
        official files, in a folder of the dataset's name: IDX, plain or .gz; CIFAR's binary version as .bin, .bin.xz or
        the .tar.gz as it is; SVHN's cropped digits, .mat. Of CIFAR-100 the labels are the 100 fine ones.
    root : path, optional
        The folder that holds the datasets' folders; nothing is downloaded then. Default: the environment variable
        `MINIDL_DATA`, then the user's cache; if a dataset is in neither, it is downloaded into the cache, and its
        checksum compared with the published one.
    size : int, optional
        Only for "digits": the height and width to which the 8 × 8 images are enlarged, for example 28.
    fraction : float in (0, 1], default 1
        Keep so much of the training images, of every class alike (`Dataset.subset`).
    seed : int, default 0
        Of which images these are.
    dtype : uint8 or a floating-point type, default uint8
        uint8: images are bytes, which `data.Loader` makes floats of, batch by batch. float32: floats in [0, 1] at once,
        which takes four times the memory (CIFAR-10: 737 MB). "digits" are always float32.

    Raises
    ------
    ValueError
        Unknown name (the message lists the known ones), a file that is truncated or of another kind (if it lies in the
        user's cache, the message says how to get it again), a download with another checksum.
    FileNotFoundError
        Naming the file and the folder in which it was looked for.
    ConnectionError
        If the download fails: naming the files, the folder to put it in and the environment variable.

    Warns
    -----
    UserWarning
        If of "cifar100" there is only a subset, in a folder `cifar100-subset`.

    Examples
    --------
    >>> digits = data.load("digits", fraction=1 / 4)
    >>> digits.train_x.shape, digits.test_x.shape
    ((360, 8, 8, 1), (355, 8, 8, 1))
    >>> cifar = data.load("cifar10", fraction=1 / 4)  # doctest: +SKIP
    """
    if name not in NAMES:
        raise ValueError(f"data.load: name is {name!r}, expected one of {', '.join(NAMES)}")
    if size is not None and name != "digits":
        raise ValueError(f"data.load: size is {size}, but only 'digits' can be enlarged, not {name!r}")
    check_seed(seed, "data.load")
    _check_fraction(fraction, "data.load")
    if np.dtype(dtype) != np.uint8 and np.dtype(dtype).kind != "f":
        raise TypeError(f"data.load: dtype is {np.dtype(dtype)}, expected uint8 or a floating-point type")
    if name == "digits":
        dataset, dtype = Dataset(*digits.load(8 if size is None else size), classes=DIGITS), np.float32
    else:
        dataset = _read(name, root)
    if fraction != 1:
        dataset = dataset.subset(fraction, seed)
    return dataset.astype(dtype)


def _read(name: str, root: str | os.PathLike[str] | None) -> Dataset:
    source = SOURCES[name]
    found = places.find(source, root)
    if found is None and root is None:
        fetching.fetch(source)
        found = places.find(source)
    if found is None:
        folder = os.path.join(os.fspath(root or places.cache()), name)
        raise FileNotFoundError(places.incomplete(source, places.Path(folder), list(source.parts)))
    try:
        train_x, train_y, test_x, test_y = READERS[source.format](found.source, found.paths)
    except ValueError as error:
        if not found.folder.is_relative_to(places.cache()):
            raise
        raise ValueError(f"{error}; `minidl data fetch {name}` gets it again") from error
    if found.source is not source:
        warnings.warn(
            f"data.load: of {name!r} only a subset is there, {len(train_x):,} + {len(test_x):,} of "
            f"{source.train:,} + {source.test:,} images, in {found.folder}; `minidl data fetch {name}` gets all",
            stacklevel=3,
        )
    return Dataset(train_x, train_y, test_x, test_y, source.classes)


def from_arrays(
    train_x: Any,
    train_y: Any,
    test_x: Any = None,
    test_y: Any = None,
    *,
    classes: Sequence[str] | None = None,
    test_fraction: float = 0.2,
    seed: int = 0,
) -> Dataset:
    """Make a dataset of arrays.

    Parameters
    ----------
    train_x : (N, H, W, C) or (N, H, W), uint8 from 0 to 255, or floats in [0, 1]
    train_y : (N,) class indices
    test_x, test_y : the same, optional
        Default: `test_fraction` of the images given, of every class alike, are set apart for testing.
    classes : sequence of str, optional
        Default: the indices, up to the largest one; there may be a thousand, or ten for each image.
    test_fraction : float in (0, 1), default 0.2
    seed : int, default 0
        Of which images are set apart.

    Raises
    ------
    ValueError, TypeError
        As `data.Dataset`; or if only one of `test_x` and `test_y` is given, or a label is so large that it is hardly
        the index of a class.

    Examples
    --------
    >>> images, labels = np.random.default_rng(0).random((50, 8, 8)), np.arange(50) % 5
    >>> dataset = data.from_arrays(images, labels, test_fraction=0.2)
    >>> dataset.train_x.shape, dataset.test_x.shape, dataset.classes
    ((40, 8, 8, 1), (10, 8, 8, 1), ('0', '1', '2', '3', '4'))
    """
    if (test_x is None) != (test_y is None):
        raise ValueError("from_arrays: test_x and test_y belong together, but one of them is None")
    check_test_fraction(test_fraction, "from_arrays")
    x, y = _with_channels(train_x, "train_x"), checks.indices(train_y, "from_arrays: train_y")
    if len(x) != len(y):
        raise ValueError(f"from_arrays: train_x holds {len(x):,} images, but train_y {len(y):,} labels")
    if test_x is None:
        test = set_apart(y, test_fraction, seed, "from_arrays")
        x, y, test_x, test_y = x[~test], y[~test], x[test], y[test]
    else:
        test_x, test_y = _with_channels(test_x, "test_x"), checks.indices(test_y, "from_arrays: test_y")
    if classes is None:
        count = 1 + max((int(labels.max()) for labels in (y, test_y) if labels.size), default=0)
        if count > max(MOST_CLASSES, 10 * (len(x) + len(test_x))):
            raise ValueError(
                f"from_arrays: the largest label is {count - 1}, but there are {len(x) + len(test_x):,} images; "
                "expected the indices of classes, or classes given"
            )
        classes = [str(i) for i in range(count)]
    return Dataset(x, y, test_x, test_y, tuple(classes))


def check_test_fraction(fraction: Any, who: str) -> None:
    """Raise in the name of `who` if so much cannot be set apart for testing."""
    if not isinstance(fraction, (int, float, np.floating)) or not 0 < fraction < 1:
        raise ValueError(f"{who}: test_fraction is {fraction!r}, expected a number between 0 and 1")


def _check_fraction(fraction: Any, who: str) -> None:
    if not isinstance(fraction, (int, float, np.floating)) or not 0 < fraction <= 1:
        raise ValueError(f"{who}: fraction is {fraction!r}, expected a number above 0 and at most 1")


def set_apart(y: Any, fraction: float, seed: int, who: str) -> Any:
    """Return a mask of the samples that are set apart for testing, of every class alike."""
    check_test_fraction(fraction, who)
    mask = np.zeros(len(y), bool)
    mask[splits.stratified(y, fraction, seed=seed)] = True
    return mask


def _with_channels(x: Any, name: str) -> Any:
    x = np.asarray(x)
    if x.ndim < 2:
        raise ValueError(f"from_arrays: {name} has shape {x.shape}, expected (N, height, width, channels)")
    return x[..., None] if x.ndim == 3 else x

"""Datasets by name: what `data.load` returns and where it looks."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from minidl.data import digits, idx


@dataclass(frozen=True)
class Dataset:
    """Images and labels, for training and for testing.

    Attributes
    ----------
    train_x, test_x : (N, H, W, C) float32 in [0, 1]
    train_y, test_y : (N,) int64 class indices
    classes : tuple of str
        The classes' names, in the order of their indices.
    """

    train_x: Any = field(repr=False)
    train_y: Any = field(repr=False)
    test_x: Any = field(repr=False)
    test_y: Any = field(repr=False)
    classes: tuple[str, ...]


DIGITS = tuple("0123456789")
FASHION = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
IDX_CLASSES = {"mnist": DIGITS, "fashion-mnist": FASHION}
NAMES = ("digits", *IDX_CLASSES)
IDX_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def load(name: str, root: str | os.PathLike[str] | None = None, *, size: int | None = None) -> Dataset:
    """Load a dataset by its name.

    Parameters
    ----------
    name : {"digits", "mnist", "fashion-mnist"}
        "digits" is embedded in the package: the UCI optical digits (`data.digits`). The others are read from their
        official IDX files, in a folder of the dataset's name.
    root : path, optional
        The folder that holds the datasets' folders. Default: the environment variable `MINIDL_DATA`.
    size : int, optional
        Only for "digits": the height and width to which the 8 × 8 images are enlarged, for example 28.

    Raises
    ------
    ValueError
        Unknown name (the message lists the known ones), or a file that is truncated or of another kind.
    FileNotFoundError
        Naming the file and the folder in which it was looked for.
    """
    if name not in NAMES:
        raise ValueError(f"data.load: name is {name!r}, expected one of {', '.join(NAMES)}")
    if name == "digits":
        return Dataset(*digits.load(8 if size is None else size), classes=DIGITS)
    if size is not None:
        raise ValueError(f"data.load: size is {size}, but only 'digits' can be enlarged, not {name!r}")
    return _read_idx(_folder(name, root), IDX_CLASSES[name])


def _folder(name: str, root: str | os.PathLike[str] | None) -> Path:
    root = root or os.environ.get("MINIDL_DATA")
    if not root:
        raise FileNotFoundError(
            f"data.load: no folder to look for '{name}' in; set the environment variable MINIDL_DATA or give root, "
            f"a folder that contains {name}/"
        )
    return Path(root) / name


def _read_idx(folder: Path, classes: tuple[str, ...]) -> Dataset:
    train_x, train_y, test_x, test_y = (idx.read(folder, stem) for stem in IDX_FILES)
    return Dataset(
        *(_images(train_x), train_y.astype(np.int64)), *(_images(test_x), test_y.astype(np.int64)), classes=classes
    )


def _images(pixels: Any) -> Any:
    return pixels[..., None].astype(np.float32) / np.float32(255)

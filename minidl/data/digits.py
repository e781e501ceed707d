"""The embedded data: the UCI optical recognition of handwritten digits, 1,797 images of 8 × 8.

Written by 13 people, digitized as 32 × 32 bitmaps and counted in blocks of 4 × 4, so that a pixel is an integer from 0
to 16. By E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998,
CC BY 4.0; from the copy in scikit-learn, unchanged but for the file format.
"""

from __future__ import annotations

from importlib import resources
from typing import Any

import numpy as np

TEST_EVERY = 5


def load(size: int = 8) -> tuple[Any, Any, Any, Any]:
    """Return (train_x, train_y, test_x, test_y): every fifth image of each class is a test image.

    Images are (N, size, size, 1), float32 in [0, 1], enlarged by linear interpolation if `size` is over 8.
    """
    if not isinstance(size, (int, np.integer)) or size < 8:
        raise ValueError(f"data.load: size is {size!r}, expected an integer of at least 8, the size of the originals")
    with resources.files("minidl.data").joinpath("digits.npz").open("rb") as file:
        stored = np.load(file, allow_pickle=False)
        images, labels = stored["images"], stored["labels"].astype(np.int64)
    x = images.astype(np.float32) / np.float32(16)
    if size > 8:
        x = _enlarge(x, size)
    x = np.ascontiguousarray(x[..., None])
    nth_of_its_class = np.empty_like(labels)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        nth_of_its_class[members] = np.arange(len(members))
    test = nth_of_its_class % TEST_EVERY == TEST_EVERY - 1
    return x[~test], labels[~test], x[test], labels[test]


def _enlarge(x: Any, size: int) -> Any:
    from scipy import ndimage  # here, because it takes longer to import than all the rest

    factor = size / x.shape[1]
    return ndimage.zoom(x, (1, factor, factor), order=1, mode="nearest", grid_mode=True)

"""Images read at other places than their pixels'."""

from __future__ import annotations

from typing import Any

import numpy as np

from minidl import buffers, threads
from minidl.backend import array_module

BORDERS = ("constant", "nearest", "reflect")
LEAST_IMAGES = 8  # for a thread


def resampled(x: Any, rows: Any, columns: Any, border: str = "constant") -> Any:
    """Return images whose pixels are those of `x` at fractional places, by linear interpolation.

    Parameters
    ----------
    x : (B, H, W, C)
    rows, columns : (B, H', W') float32
        Where each new pixel lies in the old image; integers are the middles of its pixels.
    border : {"constant", "nearest", "reflect"}
        What lies outside of the old image: black, its outermost pixels, or its mirror image.

    Notes
    -----
    One call of `scipy.ndimage.map_coordinates` (or CuPy's) for a channel of many images: they lie one below the other
    with a line of their surroundings between them, so that no pixel is mixed from two. Places are float32 until the
    integers of this stack are added in float64, which is exact: an image does not depend on where in the batch it is.
    SciPy knows float32 and float64 only; images of another precision are computed in the nearest of the two.
    """
    xp = array_module(x)
    if xp is np:
        from scipy import ndimage
    else:
        from cupyx.scipy import ndimage
    _, height, width, channels = x.shape
    made = buffers.empty((*rows.shape, channels), like=x)
    dtype = np.float32 if x.dtype.itemsize <= 4 else np.float64

    def resample(images: slice) -> None:
        part = x[images].astype(dtype, copy=False)
        framed = _framed(part, border)
        first_lines = xp.arange(len(part)).reshape(-1, 1, 1) * (height + 2)
        y = _inside(rows[images], height, border).astype(np.float64) + 1 + first_lines
        places = xp.stack([y, _inside(columns[images], width, border).astype(np.float64) + 1])
        for channel in range(channels):
            stack = framed[..., channel].reshape(-1, width + 2)
            made[images, ..., channel] = ndimage.map_coordinates(
                stack, places, order=1, mode="nearest", prefilter=False, output=dtype
            )

    threads.share(resample, threads.parts(len(x), LEAST_IMAGES) if xp is np else [slice(0, len(x))])
    return made


def _framed(x: Any, border: str) -> Any:
    """Return the images with a frame of one pixel of what lies outside."""
    count, height, width, channels = x.shape
    framed = array_module(x).zeros((count, height + 2, width + 2, channels), x.dtype)
    framed[:, 1:-1, 1:-1] = x
    if border != "constant":  # of the mirror image, too, the first line is the outermost one
        framed[:, 0], framed[:, -1] = framed[:, 1], framed[:, -2]
        framed[:, :, 0], framed[:, :, -1] = framed[:, :, 1], framed[:, :, -2]
    return framed


def _inside(places: Any, size: int, border: str) -> Any:
    """Return places within the frame where the same is to be seen."""
    xp = array_module(places)
    if border == "reflect":  # … 1 0 | 0 1 2 … n−1 | n−1 n−2 …
        size32 = np.float32(size)
        folded = xp.mod(places + np.float32(0.5), 2 * size32)
        return xp.where(folded > size32, 2 * size32 - folded, folded) - np.float32(0.5)
    return xp.clip(places, -1, size) if border == "constant" else xp.clip(places, 0, size - 1)


def gathered(x: Any, rows: Any, columns: Any, border: str = "constant") -> Any:
    """Return images of pixels of `x`, each taken from the row and the column that is given for its own.

    Parameters
    ----------
    x : (B, H, W, C)
    rows : (B, H') integers
    columns : (B, W') integers
    border : {"constant", "nearest", "reflect"}
    """
    xp = array_module(x)
    count, height, width, channels = x.shape
    made = buffers.empty((count, rows.shape[1], columns.shape[1], channels), like=x)
    pixels = x.reshape(-1, channels)
    clip = {"mode": "clip"} if xp is np else {}  # no place is outside; NumPy is faster when it need not look
    r, c = _pixels(rows, height, border), _pixels(columns, width, border)
    lines = (np.arange(count)[:, None] * height + r) * width

    def gather(images: slice) -> None:
        places = xp.asarray(lines[images, :, None] + c[images, None, :])
        xp.take(pixels, places, axis=0, out=made[images], **clip)

    threads.share(gather, threads.parts(count, 4 * LEAST_IMAGES) if xp is np else [slice(0, count)])
    if border == "constant":  # the few lines that lie outside, rather than all pixels
        image, line = map(xp.asarray, np.nonzero((rows < 0) | (rows >= height)))
        made[image, line] = 0
        image, line = map(xp.asarray, np.nonzero((columns < 0) | (columns >= width)))
        made[image, :, line] = 0
    return made


def _pixels(places: Any, size: int, border: str) -> Any:
    if border == "reflect":
        folded = places % (2 * size)
        return np.where(folded >= size, 2 * size - 1 - folded, folded)
    return np.clip(places, 0, size - 1)

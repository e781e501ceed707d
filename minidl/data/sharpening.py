"""The blur of progressive sharpening: train on blurred images first, on the originals last."""

from __future__ import annotations

from typing import Any

import numpy as np

from minidl.backend import array_module

__all__ = ["blur"]

BLOCK = 512  # images at a time, so that a blurred data set costs no more memory than the result
MODES = ("reflect", "constant", "nearest", "mirror", "wrap")


def blur(x: Any, n: int, mode: str = "reflect") -> Any:
    r"""Blur images with an n × n box filter.

    .. math:: \mathrm{kernel}_n = J_n / n^2, \qquad \mathrm{train}_n = \mathrm{train} \circledast \mathrm{kernel}_n,

    with :math:`J_n` the n × n matrix of ones: each pixel becomes the mean of the window around it, in each channel on
    its own. S, the paper on progressive sharpening.

    Parameters
    ----------
    x : (N, H, W, C) uint8, float32 or float64, of NumPy or CuPy
    n : int
        From 1, which changes nothing, to the images' smaller side.
    mode : {"reflect", "constant", "nearest", "mirror", "wrap"}, default "reflect"
        What lies beyond the border, as in `scipy.ndimage`: "reflect" is (d c b a | a b c d | d c b a), "constant" 0.

    Returns
    -------
    array (N, H, W, C)
        A new one: of floats in their dtype; of uint8 images float32 in [0, 1], not rounded to whole gray levels.

    Notes
    -----
    For an odd n the window is centred. An even n has no centre: the window of pixel i then reaches from i − n/2 to
    i + n/2 − 1, in rows and columns, so that the image moves half a pixel down and to the right.
    """
    xp = array_module(x)
    if getattr(x, "ndim", None) != 4 or str(x.dtype) not in ("uint8", "float32", "float64"):
        got = f"shape {x.shape} and dtype {x.dtype}" if hasattr(x, "dtype") else f"type {type(x).__name__}"
        raise ValueError(f"blur: x has {got}, expected images (N, H, W, C), uint8, float32 or float64")
    if not isinstance(n, (int, np.integer)) or isinstance(n, bool) or not 1 <= n <= min(x.shape[1:3]):
        raise ValueError(
            f"blur: n is {n!r}, expected an integer from 1 to the images' smaller side, {min(x.shape[1:3])}"
        )
    if mode not in MODES:
        raise ValueError(f"blur: mode is {mode!r}, expected one of {', '.join(map(repr, MODES))}")
    if xp is np:
        from scipy import ndimage  # here, because it takes longer to import than all the rest
    else:
        from cupyx.scipy import ndimage
    blurred = xp.empty(x.shape, xp.float32 if x.dtype == xp.uint8 else x.dtype)
    for start in range(0, len(x), BLOCK):
        part = slice(start, start + BLOCK)
        images = x[part] / xp.float32(255) if x.dtype == xp.uint8 else x[part]
        blurred[part] = images if n == 1 else _filtered(ndimage, images, n, mode)
    return blurred


def _filtered(ndimage: Any, images: Any, n: int, mode: str) -> Any:
    """Return means of windows, none of which is outside of the values that it is the mean of, as rounding would do."""
    if len(images) == 0:
        return images
    low, high = images.min(), images.max()
    if mode == "constant":
        low, high = min(low, 0), max(high, 0)
    means = ndimage.uniform_filter(images, size=(1, n, n, 1), mode=mode)
    return means.clip(low, high, out=means)

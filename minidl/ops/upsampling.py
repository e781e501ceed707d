"""Enlarging images, channels last."""

from __future__ import annotations

import numpy as np

from minidl import kernels
from minidl.backend import array_module
from minidl.forward import value
from minidl.ops.arguments import pair
from minidl.tensor import differentiable


def checked_mode(mode, who):
    """Return "nearest" or "bilinear"; raise in the name of `who` if it is neither."""
    if mode not in ("nearest", "bilinear"):
        raise ValueError(f"{who}: mode is {mode!r}, expected 'nearest' or 'bilinear'")
    return mode


@differentiable
def upsample2d(x, scale, mode="nearest"):
    r"""Enlarge images by a whole number.

    "nearest" repeats each pixel: :math:`y_{n,p,q,c} = x_{n,\lfloor p/s \rfloor,\lfloor q/s \rfloor,c}`, and the
    derivative sums over the copies. "bilinear" interpolates between the centres of the pixels, along one axis after the
    other, each with a matrix:

    .. math:: y = R\,x\,C^T, \qquad R_{p,h} = \max(0,\ 1 - |u_p - h|), \qquad
              u_p = \frac{p + \frac12}{s} - \frac12 \text{ limited to } [0,\ H-1],

    where :math:`u_p` is the place in x of the centre of row p of y; C is the same for the columns. The derivative is
    :math:`R^T g\,C`.

    Parameters
    ----------
    x : (N, H, W, C)
    scale : int or (vertical, horizontal)
        s.
    mode : {"nearest", "bilinear"}, default "nearest"

    Returns
    -------
    (N, H · scale, W · scale, C)

    Raises
    ------
    ValueError
        If x is no batch of images, `scale` is no positive integer or pair of them, or `mode` is neither of the two.

    Notes
    -----
    "bilinear" is PyTorch's with align_corners=False: the edges of the images, not the centres of their corner pixels,
    lie on each other, so that a block of s × s pixels has its centre where its pixel has.

    Examples
    --------
    >>> image = np.array([[1.0, 2.0]]).reshape(1, 1, 2, 1)
    >>> ops.upsample2d(image, (1, 2)).numpy().ravel()
    array([1., 1., 2., 2.])
    >>> ops.upsample2d(image, (1, 2), "bilinear").numpy().ravel()
    array([1.  , 1.25, 1.75, 2.  ])
    """
    down, across = pair(scale, "upsample2d", "scale", 1)
    checked_mode(mode, "upsample2d")
    if x.ndim != 4:
        raise ValueError(f"upsample2d: x has shape {x.shape}, expected (N, H, W, C)")
    count, height, width, channels = x.shape
    if mode == "nearest":
        blocks = (count, height, down, width, across, channels)
        copies = np.broadcast_to(x.reshape(count, height, 1, width, 1, channels), blocks)
        enlarged = copies.reshape(count, height * down, width * across, channels)
        return enlarged, lambda g: g.reshape(blocks).sum(axis=(2, 4))
    R, C = _interpolation(height, down, x), _interpolation(width, across, x)
    return _on_both_axes(R, x, C), lambda g: _on_both_axes(R.T, g, C.T)


def _interpolation(extent, scale, like):
    """Return the matrix that interpolates linearly along an axis: (extent · scale, extent), each row's sum is 1."""
    xp = array_module(value(like))  # made there: a captured graph cannot hold a copy from the host
    places = xp.clip((xp.arange(extent * scale) + 0.5) / scale - 0.5, 0, extent - 1)
    weights = xp.maximum(0, 1 - xp.abs(places[:, None] - xp.arange(extent)))
    return weights.astype(np.result_type(like.dtype, np.float32))


def _on_both_axes(R, x, C):
    """Return R x Cᵀ of each channel of each image."""
    count, height, width, channels = x.shape
    product = kernels.of(x).matmul.product
    rows = product(R, x.reshape(count, height, width * channels))
    return product(C, rows.reshape(count, len(R), width, channels))

"""Convolution of images, channels last."""

from __future__ import annotations

import numpy as np

from minidl.kernels.numpy import conv
from minidl.ops.arguments import checked_padding, pair
from minidl.tensor import differentiable


def _resolved_padding(padding, extents, size, stride):
    """Return the padding as ((top, bottom), (left, right))."""
    padding = checked_padding(padding, "conv2d")
    if padding != "same":
        return tuple((both, both) for both in padding)
    totals = [
        max(0, (-(-extent // step) - 1) * step + window - extent)
        for extent, window, step in zip(extents, size, stride, strict=True)
    ]
    return tuple((total // 2, total - total // 2) for total in totals)


@differentiable
def conv2d(x, w, b=None, *, stride=1, padding=0):
    r"""Convolve images with a bank of filters (as everywhere in the field, the kernel is not flipped).

    .. math:: y_{n,p,q,k} = b_k + \sum_{i,j,c} x_{n,\;ps+i,\;qs+j,\;c}\; w_{i,j,c,k}

    Parameters
    ----------
    x : (N, H, W, C)
        Images, channels last.
    w : (kh, kw, C, K)
        K filters.
    b : (K,), optional
        One bias a filter.
    stride : int or (vertical, horizontal), default 1
    padding : int, (vertical, horizontal), "same" or "valid", default 0
        Zeros around the image. "same": the output is ⌈H / stride⌉ × ⌈W / stride⌉; an odd number of zeros puts the
        extra one at the bottom and right, as Keras does. "valid": none.

    Returns
    -------
    (N, oh, ow, K), with oh = (H + padding − kh) // stride + 1.

    Raises
    ------
    ValueError
        If shapes do not fit; the message names the argument and the shapes.
    """
    if x.ndim != 4 or w.ndim != 4:
        raise ValueError(f"conv2d: x has shape {x.shape} and w {w.shape}, expected (N, H, W, C) and (kh, kw, C, K)")
    if x.shape[3] != w.shape[2]:
        raise ValueError(f"conv2d: x has {x.shape[3]} channels, w expects {w.shape[2]}")
    if b is not None and b.shape != w.shape[3:]:
        raise ValueError(f"conv2d: b has shape {b.shape}, expected {w.shape[3:]}, one bias a filter")
    size, shape = w.shape[:2], x.shape
    if min(size) < 1:
        raise ValueError(f"conv2d: w has shape {w.shape}; its window must be at least 1 × 1")
    stride = pair(stride, "conv2d", "stride", 1)
    padding = _resolved_padding(padding, shape[1:3], size, stride)
    for extent, window, (before, after) in zip(shape[1:3], size, padding, strict=True):
        if extent + before + after < window:
            raise ValueError(f"conv2d: w's window is {size}, larger than x with shape {shape} padded by {padding}")

    y = conv.forward(x, w, stride, padding)
    if b is not None:
        y = np.add(y, b, out=y if type(y) is type(b) else None)
    return y, (
        lambda g: conv.input_gradient(g, w, shape, stride, padding),
        lambda g: conv.weight_gradient(x, g, size, stride, padding),
        lambda g: g.sum(axis=(0, 1, 2)),
    )

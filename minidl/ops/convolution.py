"""Convolution of images and its adjoint, channels last."""

from __future__ import annotations

import numpy as np

from minidl import kernels
from minidl.graph import Joint
from minidl.ops.arguments import checked_padding, pair
from minidl.tensor import differentiable


def _check_operands(x, w, b, who):
    """Raise in the name of `who` if images, filters and biases do not fit each other."""
    if x.ndim != 4 or w.ndim != 4:
        raise ValueError(f"{who}: x has shape {x.shape} and w {w.shape}, expected (N, H, W, C) and (kh, kw, C, K)")
    if x.shape[3] != w.shape[2]:
        raise ValueError(f"{who}: x has {x.shape[3]} channels, w expects {w.shape[2]}")
    if b is not None and b.shape != w.shape[3:]:
        raise ValueError(f"{who}: b has shape {b.shape}, expected {w.shape[3:]}, one bias a filter")
    if min(w.shape) < 1:
        raise ValueError(f"{who}: w has shape {w.shape}, expected a window of at least 1 × 1, a channel and a filter")
    if min(x.shape[1:3]) < 1:
        raise ValueError(f"{who}: x has shape {x.shape}, expected images of at least one pixel")


def _resolved_padding(padding, extents, size, stride):
    """Return a checked padding as ((top, bottom), (left, right)); `extents` are those of the larger image."""
    if padding != "same":
        return tuple((both, both) for both in padding)
    totals = [
        max(0, (-(-extent // step) - 1) * step + window - extent)
        for extent, window, step in zip(extents, size, stride, strict=True)
    ]
    return tuple((total // 2, total - total // 2) for total in totals)


def checked_output_padding(output_padding, stride, padding, who):
    """Return the output padding of a transposed convolution as a pair of ints; raise in the name of `who` if not."""
    extra = pair(output_padding, who, "output_padding", 0)
    if extra[0] >= stride[0] or extra[1] >= stride[1]:
        raise ValueError(f"{who}: output_padding is {extra}, expected less than the stride, which is {stride}")
    if padding == "same" and any(extra):
        raise ValueError(f"{who}: output_padding is {extra}, expected 0 where padding is 'same'")
    return extra


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

    Examples
    --------
    >>> image = np.arange(9.0).reshape(1, 3, 3, 1)
    >>> box = np.ones((2, 2, 1, 1))
    >>> ops.conv2d(image, box).numpy()[0, :, :, 0]
    array([[ 8., 12.],
           [20., 24.]])
    """
    _check_operands(x, w, b, "conv2d")
    size, shape = w.shape[:2], x.shape
    stride = pair(stride, "conv2d", "stride", 1)
    padding = _resolved_padding(checked_padding(padding, "conv2d"), shape[1:3], size, stride)
    for extent, window, (before, after) in zip(shape[1:3], size, padding, strict=True):
        if extent + before + after < window:
            raise ValueError(f"conv2d: w's window is {size}, larger than x with shape {shape} padded by {padding}")

    def gradients(g, needed):
        conv = kernels.of(x, w, g).conv
        of_x, of_w, of_b = (*needed, False)[:3]
        gx = gw = None
        if of_x and of_w:
            gx, gw = conv.gradients(x, w, g, stride, padding)
        elif of_x:
            gx = conv.input_gradient(g, w, shape, stride, padding)
        elif of_w:
            gw = conv.weight_gradient(x, g, size, stride, padding)
        return gx, gw, conv.bias_gradient(g) if of_b else None

    return kernels.of(x, w).conv.affine(x, w, b, stride, padding), Joint(gradients)


@differentiable
def conv_transpose2d(x, w, b=None, *, stride=1, padding=0, output_padding=0):
    r"""Return the adjoint of a convolution: where `conv2d` gathers a window into one pixel, this spreads one over it.

    .. math:: y_{n,p,q,k} = b_k + \sum_{r,t,i,j,c} x_{n,r,t,c}\; w_{i,j,c,k}
              \quad\text{with } sr + i = p + \mathrm{padding} \text{ and } st + j = q + \mathrm{padding}

    Let v be w with its last two axes exchanged. Without a bias,
    :math:`\langle \mathrm{conv2d}(z, v),\, x \rangle = \langle z,\, y \rangle` for all images z of the shape of y:
    conv2d's derivative with respect to its input is this op, and this op's is conv2d.

    Parameters
    ----------
    x : (N, H, W, C)
        Images, channels last.
    w : (kh, kw, C, K)
        From C channels to K.
    b : (K,), optional
        One bias a channel of y.
    stride : int or (vertical, horizontal), default 1
        s, how far apart in y two neighbours of x are spread.
    padding : int, (vertical, horizontal), "same" or "valid", default 0
        How much is cut off on each side of y, where conv2d would add zeros. "same": y is H · stride × W · stride; of an
        odd number the extra one is cut off at the bottom and right. "valid": nothing is cut off.
    output_padding : int or (vertical, horizontal), default 0
        Rows and columns that y has more at the bottom and right. With a stride above 1, conv2d makes images of
        different heights equally high; this says which of the heights y has.

    Returns
    -------
    (N, oh, ow, K), with oh = (H − 1) · stride + kh − 2 · padding + output_padding.

    Raises
    ------
    ValueError
        If shapes do not fit, nothing would be left of y, `output_padding` is not smaller than the stride, or it comes
        together with "same".

    Notes
    -----
    N, introduction (in place of upsampling); Dumoulin and Visin 2016. PyTorch keeps w as (C, K, kh, kw).

    Examples
    --------
    >>> image = np.array([[1.0, 2.0], [3.0, 4.0]]).reshape(1, 2, 2, 1)
    >>> box = np.ones((2, 2, 1, 1))
    >>> ops.conv_transpose2d(image, box, stride=2).numpy()[0, :, :, 0]
    array([[1., 1., 2., 2.],
           [1., 1., 2., 2.],
           [3., 3., 4., 4.],
           [3., 3., 4., 4.]])
    """
    who = "conv_transpose2d"
    _check_operands(x, w, b, who)
    size, same = w.shape[:2], padding == "same"
    stride = pair(stride, who, "stride", 1)
    padding = checked_padding(padding, who)
    extra = checked_output_padding(output_padding, stride, padding, who)
    extents = tuple(extent * step for extent, step in zip(x.shape[1:3], stride, strict=True))
    padding = _resolved_padding(padding, extents, size, stride)
    if not same:
        sides = zip(x.shape[1:3], stride, size, padding, extra, strict=True)
        extents = tuple((extent - 1) * step + window - sum(cut) + more for extent, step, window, cut, more in sides)
    if min(extents) < 1:
        raise ValueError(f"{who}: padding {padding} leaves nothing of the output for x with shape {x.shape}")

    conv, v = kernels.of(x, w).conv, w.swapaxes(2, 3)
    y = conv.input_gradient(x, v, (len(x), *extents, w.shape[3]), stride, padding)
    return _with_bias(y, b), (
        lambda g: conv.forward(g, v, stride, padding),
        lambda g: conv.weight_gradient(g, x, size, stride, padding).swapaxes(2, 3),
        conv.bias_gradient,
    )


def _with_bias(y, b):
    """Return y + b, in the memory of y where that can be."""
    return y if b is None else np.add(y, b, out=y if type(y) is type(b) else None)

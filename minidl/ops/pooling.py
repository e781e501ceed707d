"""Pooling of images, channels last."""

from __future__ import annotations

from minidl import kernels
from minidl.ops.arguments import pair
from minidl.tensor import differentiable


def _windows(x, size, stride, who):
    """Check the arguments of a pooling op and return size and stride as pairs."""
    size = pair(size, who, "size", 1)
    stride = size if stride is None else pair(stride, who, "stride", 1)
    if x.ndim != 4:
        raise ValueError(f"{who}: x has shape {x.shape}, expected (N, H, W, C)")
    if x.shape[1] < size[0] or x.shape[2] < size[1]:
        raise ValueError(f"{who}: size is {size}, larger than x with shape {x.shape}")
    return size, stride


@differentiable
def max_pool2d(x, size, stride=None):
    """Return the largest value of each window. Among equal values the gradient goes to the first, row by row.

    Parameters
    ----------
    x : (N, H, W, C)
    size : int or (height, width)
        The window. Rows and columns that do not fill a last window are left out.
    stride : int or (vertical, horizontal), optional
        Default: the size, so that windows do not overlap.

    Examples
    --------
    >>> image = np.arange(16.0).reshape(1, 4, 4, 1)
    >>> ops.max_pool2d(image, 2).numpy()[0, :, :, 0]
    array([[ 5.,  7.],
           [13., 15.]])
    """
    size, stride = _windows(x, size, stride, "max_pool2d")
    pool, shape = kernels.of(x).pool, x.shape
    y, places = pool.max_forward(x, size, stride)
    return y, lambda g: pool.max_gradient(g, places, shape, size, stride)


@differentiable
def avg_pool2d(x, size, stride=None):
    """Return the mean of each window.

    Parameters
    ----------
    x : (N, H, W, C)
    size : int or (height, width)
        The window. Rows and columns that do not fill a last window are left out.
    stride : int or (vertical, horizontal), optional
        Default: the size, so that windows do not overlap.

    Examples
    --------
    >>> image = np.arange(16.0).reshape(1, 4, 4, 1)
    >>> ops.avg_pool2d(image, 2).numpy()[0, :, :, 0]
    array([[ 2.5,  4.5],
           [10.5, 12.5]])
    """
    size, stride = _windows(x, size, stride, "avg_pool2d")
    pool, shape = kernels.of(x).pool, x.shape
    return pool.average_forward(x, size, stride), lambda g: pool.average_gradient(g, shape, size, stride)


@differentiable
def windows2d(x, size, stride=None):
    """Return the elements of each window, row by row: (N, oh, ow, kh·kw, C). Their maximum or mean along axis 3 pools.

    Where windows overlap a pixel appears once in each of them, and its gradients add up.

    Parameters
    ----------
    x : (N, H, W, C)
    size : int or (height, width)
        The window. Rows and columns that do not fill a last window are left out.
    stride : int or (vertical, horizontal), optional
        Default: the size, so that windows do not overlap.
    """
    size, stride = _windows(x, size, stride, "windows2d")
    pool, shape = kernels.of(x).pool, x.shape
    return pool.windows_forward(x, size, stride), lambda g: pool.windows_gradient(g, shape, size, stride)

"""Standardization: what the training images are, and nothing else, decides how all images are scaled."""

from __future__ import annotations

from typing import Any

import numpy as np

from minidl.backend import array_module

PIECE = 2**22  # values that are looked at together: no copy of all the images is made


class Standardization:
    r"""Scales every channel as it must be for mean 0 and deviation 1 over the images that it was fitted on.

    .. math:: x' = \frac{x - \mu_c}{\sigma_c}

    Fit it on the training images, after any are held out, and use it on all others as it is: what is measured on
    images that the model has not seen must not depend on them.

    Parameters
    ----------
    train_x : (N, …, C) array
        Images of the type uint8, 0…255, or floating-point ones. μ and σ are those of x / 255 for the former.

    Attributes
    ----------
    mean, deviation : (C,) float64
        μ and σ, over all pixels of all images. Of a channel that is constant σ is 1.

    Raises
    ------
    ValueError, TypeError
        No images, other dtypes, or NaN or infinite values.

    Examples
    --------
    >>> standardize = data.Standardization(x)
    >>> train = data.Loader(x, y, augment=data.augment.compose(data.augment.flip(), standardize))
    >>> test = data.Loader(test_x, test_y, augment=standardize, shuffle=False)
    """

    def __init__(self, train_x: Any) -> None:
        x = np.asarray(train_x)
        if x.dtype != np.uint8 and x.dtype.kind != "f":
            raise TypeError(f"Standardization: train_x has dtype {x.dtype}, expected uint8 or floating-point numbers")
        if x.ndim < 2 or x.size == 0:
            raise ValueError(f"Standardization: train_x has shape {x.shape}, expected images (N, …, C)")
        self.mean, deviation = _moments_of_bytes(x) if x.dtype == np.uint8 else _moments(x)
        if not np.isfinite(self.mean + deviation).all():
            raise ValueError("Standardization: train_x contains NaN or infinite values")
        self.deviation = np.where(deviation > 1e-12 * np.abs(self.mean), deviation, 1.0)

    def __call__(self, x: Any, generator: Any = None) -> Any:
        """Return the images, scaled: float32, or of their own dtype if that is floating-point.

        Images of the type uint8 are divided by 255 first. The generator is not used: it is there because everything
        that a Loader can be given as `augment` gets one.
        """
        x = self._checked(x)
        mean, deviation = (array_module(x).asarray(values, x.dtype) for values in (self.mean, self.deviation))
        return (x - mean) / deviation

    def inverse(self, x: Any) -> Any:
        """Return the images before they were scaled, in [0, 1]."""
        x = self._checked(x)
        mean, deviation = (array_module(x).asarray(values, x.dtype) for values in (self.mean, self.deviation))
        return x * deviation + mean

    def __repr__(self) -> str:
        mean, deviation = (", ".join(f"{value:.4g}" for value in values) for values in (self.mean, self.deviation))
        return f"Standardization(mean ({mean}), deviation ({deviation}))"

    def _checked(self, x: Any) -> Any:
        if x.shape[-1:] != self.mean.shape:
            raise ValueError(
                f"Standardization: x has shape {x.shape}, expected {len(self.mean)} channels, the last axis"
            )
        if x.dtype == np.uint8:
            return x / np.float32(255)
        if x.dtype.kind != "f":
            raise TypeError(f"Standardization: x has dtype {x.dtype}, expected uint8 or floating-point numbers")
        return x


def _pieces(x: Any) -> Any:
    """Yield the images, some at a time, as (pixels, channels)."""
    step = max(1, PIECE // max(1, x[0].size))
    for i in range(0, len(x), step):
        yield x[i : i + step].reshape(-1, x.shape[-1])


def _moments_of_bytes(x: Any) -> tuple[Any, Any]:
    """Return mean and deviation of x / 255 in each channel, from how often each of the 256 values occurs."""
    counts = np.zeros((x.shape[-1], 256), np.int64)
    for pixels in _pieces(x):
        for channel, values in enumerate(pixels.T):
            counts[channel] += np.bincount(values, minlength=256)
    values = np.arange(256) / 255
    shares = counts / (x.size // x.shape[-1])
    mean = shares @ values
    return mean, np.sqrt((shares * (values - mean[:, None]) ** 2).sum(axis=1))


def _moments(x: Any) -> tuple[Any, Any]:
    """Return mean and deviation in each channel; the second pass is over the differences, as the mean may be large."""
    count = x.size // x.shape[-1]
    with np.errstate(over="ignore", invalid="ignore"):
        mean = sum(pixels.sum(axis=0, dtype=np.float64) for pixels in _pieces(x)) / count
        squares = sum(((pixels - mean) ** 2).sum(axis=0) for pixels in _pieces(x))
    return mean, np.sqrt(squares / count)

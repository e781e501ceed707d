"""Dropout as an op: the mask is drawn here and used again by the derivative."""

from __future__ import annotations

import numpy as np

from minidl.backend import array_module, default_generator
from minidl.tensor import differentiable


@differentiable
def dropout(x, p=0.5, *, scaling="inverted", generator=None):
    r"""Drop each element with probability p: :math:`y = x \odot b`, :math:`b \sim \mathrm{Bernoulli}(1-p)`.

    Parameters
    ----------
    x : array
    p : float in [0, 1], default 0.5
        The probability of dropping.
    scaling : {"inverted", "eval"}, default "inverted"
        "inverted" divides by 1 − p, so that the mean is kept and evaluation is the identity; "eval" leaves the values,
        and evaluation multiplies by 1 − p.
    generator : numpy.random.Generator, optional
        Default: the thread's generator (`ml.manual_seed`).

    Notes
    -----
    N §1.1.4; Srivastava et al. 2014. With p = 1 everything is dropped and y = 0 under both scalings.
    """
    if not 0 <= p <= 1:
        raise ValueError(f"dropout: p is {p}, expected a probability in [0, 1]")
    if scaling not in ("inverted", "eval"):
        raise ValueError(f"dropout: scaling is {scaling!r}, expected 'inverted' or 'eval'")
    uniform = (generator or default_generator()).random(x.shape, dtype=np.float32)
    mask = (uniform >= p).astype(x.dtype)
    if scaling == "inverted" and p < 1:
        mask /= 1 - p
    mask = array_module(x).asarray(mask)
    return x * mask, lambda g: g * mask

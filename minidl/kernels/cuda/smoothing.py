"""Residual smoothing: the launches of `smoothing.cu`."""

from __future__ import annotations

from minidl import buffers
from minidl.backend import array_module
from minidl.forward import multilinear
from minidl.kernels.cuda import launch, rows

VARIANTS = rows.variants("smoothing.cu")


def forward(d, scale, steepness, frozen):
    """Return r for residuals d (N, M). `scale` may be an array of shape () on the device; `frozen` changes nothing."""
    launch.check_size("residual_smoothing", d=d)
    d = array_module(d).ascontiguousarray(d)
    r = buffers.empty(d.shape, d)
    rows.run("smoothing.cu", "forward", d, d, *launch.setting(scale, d.dtype), float(steepness), *d.shape, r)
    return r


@multilinear(0)
def gradient(g, d, scale, steepness, frozen):
    """Return the gradient with respect to d, through κ too unless it is frozen."""
    g, d = map(array_module(d).ascontiguousarray, (g, d))
    by_d, settings = buffers.empty(d.shape, d), (*launch.setting(scale, d.dtype), float(steepness), bool(frozen))
    rows.run("smoothing.cu", "gradient", d, g, d, *settings, *d.shape, by_d, kept=2)
    return by_d

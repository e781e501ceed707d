"""Smoothing as ops: of the values of a sample among each other, and of images by diffusion."""

from __future__ import annotations

import numpy as np

from minidl import kernels
from minidl.backend import array_module
from minidl.forward import value
from minidl.kernels.numpy import diffusion
from minidl.ops.arguments import number, positive_integer
from minidl.tensor import differentiable


@differentiable
def residual_smoothing(d, scale, steepness=1.0, *, differentiate_diffusivity=False):
    r"""Smooth the residuals of each sample: diffusion among its M values, stronger where a residual is large.

    .. math:: r_j = (1-\kappa_j)\,d_j + \frac{\kappa_j}{M-1} \sum_{k \ne j} d_k, \qquad
              \kappa_j = \frac{s}{1+e^{-\alpha \tilde d_j}}, \qquad \tilde d_j = \frac{d_j-\mu}{\sigma}

    with the mean :math:`\mu` and the standard deviation :math:`\sigma` of the sample's M values. For a constant
    diffusivity :math:`\kappa`, and with :math:`q = \frac{M}{M-1}\,\kappa g`,

    .. math:: \frac{\partial L}{\partial d_j} = g_j - q_j + \overline{q}

    where the bar is the mean over the M values. Time and memory are O(M) a sample, not O(M²).

    Parameters
    ----------
    d : (N, M)
        Residuals, such as :math:`|h(x) - y|` for the outputs h and the one-hot target y; M is at least 2.
    scale : float in [0, 1]
        s, which bounds the diffusivity; 0 leaves d as it is. Annealed during training. It may be an array of shape ()
        on the GPU where d lies, which is read when the kernel runs, and not checked.
    steepness : float, default 1
        α, at least 0. With 0, all of :math:`\kappa` is s / 2: the global form. Otherwise it is the local one.
    differentiate_diffusivity : bool, default False
        Whether gradients, and second derivatives, see how :math:`\kappa` depends on d. By default it is a constant of
        the step, since the method alternates between evaluating the residual and choosing its regularity.

    Raises
    ------
    ValueError, TypeError
        If d has other axes or fewer than 2 values a sample, or a setting is no number in its interval.

    Notes
    -----
    R, equations 9, 10, 15, 17 to 20 and 22. Where all residuals of a sample are equal, :math:`\sigma = 0`, all
    :math:`\tilde d` count as 0.

    Examples
    --------
    >>> residual = np.array([[0.6, 0.3, 0.0]])
    >>> ops.residual_smoothing(residual, 0.2, steepness=0).numpy().round(3)  # κ = 0.1 for all
    array([[0.555, 0.3  , 0.045]])
    """
    if d.ndim != 2:
        raise ValueError(f"residual_smoothing: d has shape {d.shape}, expected (samples, values)")
    if d.shape[1] < 2:
        raise ValueError(f"residual_smoothing: d has shape {d.shape}: a sample needs at least 2 values, to be smoothed")
    if array_module(scale) is np:
        scale = number(scale, "residual_smoothing", "scale", "[0, 1]")
    steepness = number(steepness, "residual_smoothing", "steepness")
    settings = scale, steepness, not differentiate_diffusivity
    smoothing = kernels.of(d).smoothing
    return smoothing.forward(d, *settings), lambda g: smoothing.gradient(g, d, *settings)


@differentiable
def diffuse2d(u, kappa, steps=1):
    r"""Diffuse images: explicit steps of the heat equation, with a border that nothing passes.

    .. math:: \frac{\partial u}{\partial \tau} = \kappa\, \Delta u, \qquad
              u^{k+1} = u^k + \kappa \odot \Delta u^k, \qquad
              (\Delta u)_{pq} = \sum_{(p', q') \sim (p, q)} (u_{p'q'} - u_{pq})

    over the up to four neighbours of a pixel inside the image, in each channel by itself: the five-point Laplace
    operator where beyond the border lies the mirror image, the Neumann condition. It is symmetric, so that a step has

    .. math:: \frac{\partial L}{\partial u^k} = g + \Delta (\kappa \odot g), \qquad
              \frac{\partial L}{\partial \kappa} = g \odot \Delta u^k

    Parameters
    ----------
    u : (N, H, W, C)
    kappa : float, or an array that broadcasts to the shape of u
        κ, the diffusivity, in [0, 1/4]: beyond that explicit steps are not stable. A constant one keeps the sum of an
        image; with any, its extremes do not grow. The values of an array on a GPU are not checked.
    steps : int, default 1
        How many steps; κ is the same in all of them.

    Raises
    ------
    ValueError
        If u is no batch of images, κ has another shape or lies outside [0, 1/4], or `steps` is no positive integer.

    Notes
    -----
    R, equation 8. The distance of neighbours and the length of a step in τ are 1.
    """
    if u.ndim != 4:
        raise ValueError(f"diffuse2d: u has shape {u.shape}, expected (N, H, W, C)")
    on_host = array_module(value(kappa)) is np
    real = (np.asarray(value(kappa)) if on_host else value(kappa)).real
    if real.ndim > 4 or any(n not in (1, m) for n, m in zip(real.shape[::-1], u.shape[::-1], strict=False)):
        raise ValueError(f"diffuse2d: kappa has shape {real.shape}, which does not broadcast to u's, {u.shape}")
    steps = positive_integer(steps, "diffuse2d", "steps")
    if on_host and not ((real >= 0) & (real <= 0.25)).all():  # NaN too
        raise ValueError(
            f"diffuse2d: kappa has values from {real.min()} to {real.max()}, expected all in [0, 1/4], where the steps "
            "are stable"
        )
    return diffusion.forward(u, kappa, steps), (
        lambda g: diffusion.gradient(g, kappa, steps),
        lambda g: diffusion.gradient_of_diffusivity(g, u, kappa, steps),
    )

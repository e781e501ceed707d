"""Residual smoothing as an op."""

from __future__ import annotations

from minidl.kernels.numpy import smoothing
from minidl.ops.arguments import number
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
        s, which bounds the diffusivity; 0 leaves d as it is. Annealed during training.
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
    """
    if d.ndim != 2:
        raise ValueError(f"residual_smoothing: d has shape {d.shape}, expected (samples, values)")
    if d.shape[1] < 2:
        raise ValueError(f"residual_smoothing: d has shape {d.shape}: a sample needs at least 2 values, to be smoothed")
    scale = number(scale, "residual_smoothing", "scale", "[0, 1]")
    steepness = number(steepness, "residual_smoothing", "steepness")
    settings = scale, steepness, not differentiate_diffusivity
    return smoothing.forward(d, *settings), lambda g: smoothing.gradient(g, d, *settings)

"""Methods that adapt the rate of each weight to the gradients that it has seen.

All operations on vectors are element by element. Each equation is the one of the notes; where other libraries place ε
or a bias correction elsewhere, the docstring says so.
"""

from __future__ import annotations

from typing import Any, Unpack

import numpy as np

from minidl.optim.optimizer import Optimizer, Options, Rate


class AdaGrad(Optimizer):
    r"""Divide by the root of the sum of all squared gradients.

    .. math:: G_t = G_{t-1} + g^2, \qquad W^t = W^{t-1} - \frac{\eta_t}{\sqrt{G_t + \epsilon}}\, g

    Parameters
    ----------
    params : Module or iterable of Tensors
    lr : float or callable, default 0.01
        η.
    eps : float, default 1e-8
        ε, inside the root.
    accumulate : {"square", "exp"}, default "square"
        "exp" is the notes' variant :math:`G_t = G_{t-1} + \exp(-g)`.
    **options
        `penalty`, `clip` and `lr_scale`, as `Optimizer` describes them.

    Notes
    -----
    N §1.2.3.3; Duchi et al. 2011. PyTorch adds ε (1e-10) outside the root.
    """

    by_element = True
    state = ("G",)

    def __init__(
        self, params: Any, lr: Rate = 0.01, eps: float = 1e-8, accumulate: str = "square", **options: Unpack[Options]
    ) -> None:
        super().__init__(params, lr, **options)
        if accumulate not in ("square", "exp"):
            raise ValueError(f"AdaGrad: accumulate is {accumulate!r}, expected 'square' or 'exp'")
        self.eps = self.checked("eps", eps)
        self.accumulate = accumulate

    def update(self, W, g, lr, t):
        if self.accumulate == "square":
            self.G = self.G + g**2
        else:
            with np.errstate(over="ignore"):  # an infinite G stops its weight, which is the limit
                self.G = self.G + np.exp(-g)
        return W - lr / np.sqrt(self.G + self.eps) * g


class RMSProp(Optimizer):
    r"""Divide by the root of a running average of the squared gradients.

    .. math:: E_t = \gamma E_{t-1} + (1-\gamma)\, g^2, \qquad W^t = W^{t-1} - \frac{\eta_t}{\sqrt{E_t + \epsilon}}\, g

    Parameters
    ----------
    params : Module or iterable of Tensors
    lr : float or callable, default 0.001
        η.
    gamma : float in [0, 1), default 0.9
        γ, how much of the average is kept.
    eps : float, default 1e-8
        ε.
    eps_inside : bool, default True
        False gives P's form :math:`\frac{\eta g}{\sqrt{E_t} + \epsilon}`, which is PyTorch's too (there γ is 0.99).
    **options
        `penalty`, `clip` and `lr_scale`, as `Optimizer` describes them.

    Notes
    -----
    N §1.2.3.3; Tieleman and Hinton 2012.
    """

    by_element = True
    state = ("E",)

    def __init__(
        self,
        params: Any,
        lr: Rate = 0.001,
        gamma: float = 0.9,
        eps: float = 1e-8,
        eps_inside: bool = True,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(params, lr, **options)
        self.gamma = self.checked("gamma", gamma, "[0, 1)")
        self.eps = self.checked("eps", eps)
        self.eps_inside = eps_inside

    def update(self, W, g, lr, t):
        self.E = self.gamma * self.E + (1 - self.gamma) * g**2
        root = np.sqrt(self.E + self.eps) if self.eps_inside else np.sqrt(self.E) + self.eps
        return W - lr / root * g


class Adadelta(Optimizer):
    r"""Steps as large as past steps were: no learning rate.

    .. math:: E_t &= \gamma E_{t-1} + (1-\gamma)\, g^2, \qquad
              \Delta_t = -\frac{\mathrm{RMS}[\Delta]_{t-1}}{\mathrm{RMS}[g]_t}\, g \\
              D_t &= \gamma D_{t-1} + (1-\gamma)\, \Delta_t^2, \qquad W^t = W^{t-1} + \Delta_t

    with :math:`\mathrm{RMS}[g]_t = \sqrt{E_t + \epsilon}` and :math:`\mathrm{RMS}[\Delta]_t = \sqrt{D_t + \epsilon}`.

    Parameters
    ----------
    params : Module or iterable of Tensors
    gamma : float in [0, 1), default 0.95
        γ, how much of the averages is kept.
    eps : float, default 1e-6
        ε. It sets the size of the first steps, about √ε.
    **options
        `penalty`, `clip` and `lr_scale`, as `Optimizer` describes them.

    Notes
    -----
    N §1.2.3.3; Zeiler 2012. PyTorch's `Adadelta(rho=0.95, lr=1)` is the same sequence.
    """

    by_element = True
    state = ("E", "D")
    has_rate = False

    def __init__(self, params: Any, gamma: float = 0.95, eps: float = 1e-6, **options: Unpack[Options]) -> None:
        super().__init__(params, None, **options)
        self.gamma = self.checked("gamma", gamma, "[0, 1)")
        self.eps = self.checked("eps", eps)

    def update(self, W, g, lr, t):
        self.E = self.gamma * self.E + (1 - self.gamma) * g**2
        delta = -np.sqrt(self.D + self.eps) / np.sqrt(self.E + self.eps) * g
        self.D = self.gamma * self.D + (1 - self.gamma) * delta**2
        return W + delta


class Adam(Optimizer):
    r"""Momentum divided by the root of the average squared gradient, both corrected for starting at zero.

    .. math:: m_t &= \beta_1 m_{t-1} + (1-\beta_1)\, g, \qquad v_t = \beta_2 v_{t-1} + (1-\beta_2)\, g^2 \\
              \hat m_t &= \frac{m_t}{1-\beta_1^t}, \qquad \hat v_t = \frac{v_t}{1-\beta_2^t}, \qquad
              W^t = W^{t-1} - \eta_t \frac{\hat m_t}{\sqrt{\hat v_t} + \epsilon}

    Parameters
    ----------
    params : Module or iterable of Tensors
    lr : float or callable, default 0.001
        η.
    betas : pair of floats in [0, 1), default (0.9, 0.999)
        β₁ and β₂.
    eps : float, default 1e-8
        ε, outside the root.
    bias_correction : bool, default True
        False gives P's form :math:`W^t = W^{t-1} - \eta_t \frac{m_t}{\sqrt{v_t} + \epsilon}`.
    **options
        `penalty`, `clip` and `lr_scale`, as `Optimizer` describes them.

    Notes
    -----
    N §1.2.3.3; Kingma and Ba 2015, Algorithm 1. PyTorch's `Adam` is the same sequence.

    Examples
    --------
    >>> W = ml.Tensor([1.0, 100.0], requires_grad=True)
    >>> optimizer = optim.Adam([W], lr=0.1)
    >>> (W * W).sum().backward()
    >>> optimizer.step()
    >>> W.numpy()
    array([ 0.9, 99.9], dtype=float32)
    """

    by_element = True
    state = ("m", "v")

    def __init__(
        self,
        params: Any,
        lr: Rate = 0.001,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        bias_correction: bool = True,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(params, lr, **options)
        self.beta1, self.beta2 = _checked_betas(self, betas)
        self.eps = self.checked("eps", eps)
        self.bias_correction = bias_correction

    def update(self, W, g, lr, t):
        self.m = self.beta1 * self.m + (1 - self.beta1) * g
        self.v = self.beta2 * self.v + (1 - self.beta2) * g**2
        if not self.bias_correction:
            return W - lr * self.m / (np.sqrt(self.v) + self.eps)
        m_hat = self.m / (1 - self.beta1**t)
        v_hat = self.v / (1 - self.beta2**t)
        return W - lr * m_hat / (np.sqrt(v_hat) + self.eps)


class AdaMax(Optimizer):
    r"""Adam with the maximum norm: divide by the largest gradient seen, slowly forgotten.

    .. math:: u_t = \max(\beta_2 u_{t-1}, |g|), \qquad W^t = W^{t-1} - \frac{\eta_t}{u_t}\, \hat m_t

    with :math:`\hat m_t` as in `Adam`. A weight whose gradient has always been zero has :math:`u_t = 0` and stays.

    Parameters
    ----------
    params : Module or iterable of Tensors
    lr : float or callable, default 0.002
        η.
    betas : pair of floats in [0, 1), default (0.9, 0.999)
        β₁ and β₂.
    **options
        `penalty`, `clip` and `lr_scale`, as `Optimizer` describes them.

    Notes
    -----
    N §1.2.3.3 (which writes v inside the maximum; the recursion is on u); Kingma and Ba 2015, Algorithm 2. PyTorch adds
    ε to `|g|`: the same sequence with its eps = 0.
    """

    by_element = True
    state = ("m", "u")

    def __init__(
        self, params: Any, lr: Rate = 0.002, betas: tuple[float, float] = (0.9, 0.999), **options: Unpack[Options]
    ) -> None:
        super().__init__(params, lr, **options)
        self.beta1, self.beta2 = _checked_betas(self, betas)

    def update(self, W, g, lr, t):
        self.m = self.beta1 * self.m + (1 - self.beta1) * g
        self.u = np.maximum(self.beta2 * self.u, np.abs(g))
        m_hat = self.m / (1 - self.beta1**t)
        never_moved = self.u == 0  # there m̂ is 0 too, and 0 / 1 stands for the 0 / 0
        return W - lr * (m_hat / (self.u + never_moved))  # η / u would overflow where u is denormal


class Nadam(Optimizer):
    r"""Adam with Nesterov's look-ahead in the first moment.

    .. math:: W^t = W^{t-1} - \frac{\eta_t}{\sqrt{\hat v_t + \epsilon}}
              \Big(\beta_1 \hat m_t + \frac{(1-\beta_1)\, g}{1-\beta_1^t}\Big)

    with :math:`\hat m_t` and :math:`\hat v_t` as in `Adam`.

    Parameters
    ----------
    params : Module or iterable of Tensors
    lr : float or callable, default 0.001
        η.
    betas : pair of floats in [0, 1), default (0.9, 0.999)
        β₁ and β₂.
    eps : float, default 1e-8
        ε, inside the root.
    **options
        `penalty`, `clip` and `lr_scale`, as `Optimizer` describes them.

    Notes
    -----
    N §1.2.3.3; Dozat 2016. PyTorch follows Dozat's schedule of β₁ and has :math:`1-\beta_1^{t+1}` under the first term
    and ε outside the root: another sequence.
    """

    by_element = True
    state = ("m", "v")

    def __init__(
        self,
        params: Any,
        lr: Rate = 0.001,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(params, lr, **options)
        self.beta1, self.beta2 = _checked_betas(self, betas)
        self.eps = self.checked("eps", eps)

    def update(self, W, g, lr, t):
        self.m = self.beta1 * self.m + (1 - self.beta1) * g
        self.v = self.beta2 * self.v + (1 - self.beta2) * g**2
        m_hat = self.m / (1 - self.beta1**t)
        v_hat = self.v / (1 - self.beta2**t)
        ahead = self.beta1 * m_hat + (1 - self.beta1) * g / (1 - self.beta1**t)
        return W - lr / np.sqrt(v_hat + self.eps) * ahead


class AMSGrad(Optimizer):
    r"""Adam whose rates never grow: divide by the root of the largest average seen.

    .. math:: \hat v_t = \max(\hat v_{t-1}, v_t), \qquad W^t = W^{t-1} - \frac{\eta_t}{\sqrt{\hat v_t} + \epsilon}\, m_t

    with :math:`m_t` and :math:`v_t` as in `Adam`, without bias correction.

    Parameters
    ----------
    params : Module or iterable of Tensors
    lr : float or callable, default 0.001
        η.
    betas : pair of floats in [0, 1), default (0.9, 0.999)
        β₁ and β₂.
    eps : float, default 1e-8
        ε, outside the root.
    **options
        `penalty`, `clip` and `lr_scale`, as `Optimizer` describes them.

    Notes
    -----
    N §1.2.3.3; Reddi et al. 2018. PyTorch's `Adam(amsgrad=True)` takes the maximum and then corrects the bias: another
    sequence.
    """

    by_element = True
    state = ("m", "v", "v_hat")

    def __init__(
        self,
        params: Any,
        lr: Rate = 0.001,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(params, lr, **options)
        self.beta1, self.beta2 = _checked_betas(self, betas)
        self.eps = self.checked("eps", eps)

    def update(self, W, g, lr, t):
        self.m = self.beta1 * self.m + (1 - self.beta1) * g
        self.v = self.beta2 * self.v + (1 - self.beta2) * g**2
        self.v_hat = np.maximum(self.v_hat, self.v)
        return W - lr / (np.sqrt(self.v_hat) + self.eps) * self.m


def _checked_betas(optimizer: Optimizer, betas: Any) -> tuple[float, float]:
    if not isinstance(betas, (tuple, list)) or len(betas) != 2:
        raise ValueError(f"{type(optimizer).__name__}: betas is {betas!r}, expected a pair of numbers in [0, 1)")
    return optimizer.checked("betas[0]", betas[0], "[0, 1)"), optimizer.checked("betas[1]", betas[1], "[0, 1)")

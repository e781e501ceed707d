"""Gradient descent and its two momentum forms."""

from __future__ import annotations

from typing import Any, Unpack

from minidl.optim.optimizer import Optimizer, Options, Rate


class SGD(Optimizer):
    r"""Stochastic gradient descent.

    .. math:: W^t = W^{t-1} - \eta_t\, g

    Parameters
    ----------
    params : Module or iterable of Tensors
    lr : float or callable, default 0.01
        η.
    **options
        `penalty`, `clip` and `lr_scale`, as `Optimizer` describes them.

    Notes
    -----
    N §1.2.3.2. Plain: for momentum see `HeavyBall` and `Nesterov`.

    Examples
    --------
    >>> W = ml.Tensor([1.0, 2.0], requires_grad=True)
    >>> optimizer = optim.SGD([W], lr=0.1)
    >>> (W * W).sum().backward()
    >>> optimizer.step()
    >>> W.numpy()
    array([0.8, 1.6], dtype=float32)
    """

    by_element = True

    def __init__(self, params: Any, lr: Rate = 0.01, **options: Unpack[Options]) -> None:
        super().__init__(params, lr, **options)

    def update(self, W, g, lr, t):
        return W - lr * g


class HeavyBall(Optimizer):
    r"""Polyak's momentum: the last displacement, shortened by β, is added to the step.

    .. math:: W^t = W^{t-1} - \eta_t\, g + \beta\,(W^{t-1} - W^{t-2}), \qquad g = \nabla L(W^{t-1})

    The state is the displacement :math:`v_t = W^t - W^{t-1}`. It keeps the rates of the steps that it is made of: when
    a schedule cuts the rate from 0.1 to 0.001, the weights coast on with the old steps, a hundred times as long as the
    new ones. With ``rate_inside=False`` the state is the running sum of gradients, and the newest rate holds for all:

    .. math:: v_t = \beta\, v_{t-1} + g, \qquad W^t = W^{t-1} - \eta_t\, v_t

    Parameters
    ----------
    params : Module or iterable of Tensors
    lr : float or callable, default 0.01
        η.
    beta : float in [0, 1), default 0.9
        β.
    rate_inside : bool, default True
        Whether the rate is inside of what is kept, as in the notes. At a constant rate both forms are the same
        sequence; PyTorch's `SGD(momentum=β)` is the other one.
    **options
        `penalty`, `clip` and `lr_scale`, as `Optimizer` describes them.

    Notes
    -----
    N §1.2.3.3; Polyak 1964.

    Examples
    --------
    >>> W = ml.Tensor([1.0], requires_grad=True)
    >>> optimizer = optim.HeavyBall([W], lr=0.1, beta=0.5)
    >>> for _ in range(3):
    ...     optimizer.zero_grad()
    ...     (W * W).sum().backward()
    ...     optimizer.step()
    ...     print(f"{W.item():.3f}")
    0.800
    0.540
    0.302
    """

    by_element = True
    state = ("v",)

    def __init__(
        self,
        params: Any,
        lr: Rate = 0.01,
        beta: float = 0.9,
        rate_inside: bool = True,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(params, lr, **options)
        self.beta = self.checked("beta", beta, "[0, 1)")
        self.rate_inside = rate_inside

    def update(self, W, g, lr, t):
        if self.rate_inside:
            self.v = self.beta * self.v - lr * g
            return W + self.v
        self.v = self.beta * self.v + g
        return W - lr * self.v


class Nesterov(Optimizer):
    r"""Nesterov's accelerated gradient: momentum with the gradient taken at the look-ahead point.

    .. math:: W^t = W^{t-1} - \eta_t \nabla L\big(W^{t-1} + \beta (W^{t-1}-W^{t-2})\big) + \beta (W^{t-1}-W^{t-2})

    The state is the displacement :math:`v_t = W^t - W^{t-1}`. `zero_grad`, which begins a step, moves the parameters to
    the look-ahead point :math:`W^{t-1} + \beta v_{t-1}`; `step` ends it at :math:`W^t`. So a model that is evaluated or
    saved between `step` and `zero_grad` is at the true iterate; `Module.eval`, `state_dict` and `load_state_dict` bring
    it there in any case, and `weights` is the true iterate always.

    Parameters
    ----------
    params : Module or iterable of Tensors
    lr : float or callable, default 0.01
        η.
    beta : float in [0, 1), default 0.9
        β.
    **options
        `penalty`, `clip` and `lr_scale`, as `Optimizer` describes them.

    Raises
    ------
    RuntimeError
        From `step`, if the parameters are not at the look-ahead point, because `zero_grad` was not called before the
        forward pass or the model was evaluated since: the gradient would belong to the wrong point.

    Notes
    -----
    N §1.2.3.3; Nesterov 1983. With :math:`v \to -v` this is the notes' second form,
    :math:`v^t = \gamma v^{t-1} + \eta \nabla J(\theta - \gamma v^{t-1})`, :math:`\theta \leftarrow \theta - v^t`.
    PyTorch's `SGD(nesterov=True)` keeps its parameters at the look-ahead point for good.
    """

    by_element = True
    state = ("v",)

    def __init__(self, params: Any, lr: Rate = 0.01, beta: float = 0.9, **options: Unpack[Options]) -> None:
        super().__init__(params, lr, **options)
        self.beta = self.checked("beta", beta, "[0, 1)")

    def zero_grad(self) -> None:
        super().zero_grad()
        self._vector.look_ahead(self.beta * self.v)

    def step(self, closure=None, *, numbers=None):
        if closure is None and not self._vector.ahead:
            raise RuntimeError(
                "Nesterov.step: the parameters are not at the look-ahead point, so the gradient is not the one needed; "
                "call zero_grad right before the forward pass, not at the end of the step before"
            )
        try:
            return super().step(closure, numbers=numbers)
        finally:
            self._vector.settle()  # also when the closure fails

    def not_stepped(self):
        self._vector.recall()

    def update(self, W, g, lr, t):  # g was taken at W + βv
        self.v = self.beta * self.v - lr * g
        return W + self.v

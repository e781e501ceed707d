"""Gradient descent and its two momentum forms."""

from __future__ import annotations

from typing import Any

from minidl.optim.optimizer import Optimizer, Schedule


class SGD(Optimizer):
    r"""Stochastic gradient descent.

    .. math:: W^t = W^{t-1} - \eta_t\, g

    Parameters
    ----------
    params : Module or iterable of Tensors
    lr : float or callable, default 0.01
        η.

    Notes
    -----
    N §1.2.3.2. Plain: for momentum see `HeavyBall` and `Nesterov`.
    """

    def __init__(self, params: Any, lr: float | Schedule = 0.01) -> None:
        super().__init__(params, lr)

    def update(self, W, g, lr, t):
        return W - lr * g


class HeavyBall(Optimizer):
    r"""Polyak's momentum: the last displacement, shortened by β, is added to the step.

    .. math:: W^t = W^{t-1} - \eta_t\, g + \beta\,(W^{t-1} - W^{t-2}), \qquad g = \nabla L(W^{t-1})

    The state is the displacement :math:`v_t = W^t - W^{t-1}`.

    Parameters
    ----------
    params : Module or iterable of Tensors
    lr : float or callable, default 0.01
        η.
    beta : float in [0, 1), default 0.9
        β.

    Notes
    -----
    N §1.2.3.3; Polyak 1964. PyTorch's `SGD(momentum=β)` keeps the rate outside its buffer: it is the same sequence at a
    constant rate, and another one when the rate changes.
    """

    state = ("v",)

    def __init__(self, params: Any, lr: float | Schedule = 0.01, beta: float = 0.9) -> None:
        super().__init__(params, lr)
        self.beta = self.checked("beta", beta, below=1)

    def update(self, W, g, lr, t):
        self.v = self.beta * self.v - lr * g
        return W + self.v


class Nesterov(Optimizer):
    r"""Nesterov's accelerated gradient: momentum with the gradient taken at the look-ahead point.

    .. math:: W^t = W^{t-1} - \eta_t \nabla L\big(W^{t-1} + \beta (W^{t-1}-W^{t-2})\big) + \beta (W^{t-1}-W^{t-2})

    The state is the displacement :math:`v_t = W^t - W^{t-1}`. `zero_grad`, which begins a step, moves the parameters to
    the look-ahead point :math:`W^{t-1} + \beta v_{t-1}`; `step` ends it at :math:`W^t`. So the model is at the true
    iterate whenever it is evaluated or saved between `step` and `zero_grad`, and `weights` is the true iterate always.

    Parameters
    ----------
    params : Module or iterable of Tensors
    lr : float or callable, default 0.01
        η.
    beta : float in [0, 1), default 0.9
        β.

    Raises
    ------
    RuntimeError
        From `step`, if `zero_grad` was not called before: the gradient would belong to the wrong point.

    Notes
    -----
    N §1.2.3.3; Nesterov 1983. With :math:`v \to -v` this is the notes' second form,
    :math:`v^t = \gamma v^{t-1} + \eta \nabla J(\theta - \gamma v^{t-1})`, :math:`\theta \leftarrow \theta - v^t`.
    PyTorch's `SGD(nesterov=True)` keeps its parameters at the look-ahead point for good.
    """

    state = ("v",)

    def __init__(self, params: Any, lr: float | Schedule = 0.01, beta: float = 0.9) -> None:
        super().__init__(params, lr)
        self.beta = self.checked("beta", beta, below=1)
        self._iterate: Any = None  # W^{t-1} while the parameters stand at the look-ahead point

    def zero_grad(self) -> None:
        super().zero_grad()
        if self._iterate is None:
            self._iterate = self._vector.array.copy()
            self._vector.array += self.beta * self.v
            self._vector.written()

    def step(self, closure=None):
        if self._iterate is None and closure is None:
            raise RuntimeError(
                "Nesterov.step: call zero_grad before the forward pass; it moves the parameters to the look-ahead point"
            )
        try:
            return super().step(closure)
        except BaseException:
            self._return()
            raise

    def _return(self) -> None:
        """Bring the parameters back from the look-ahead point, after a step that failed."""
        if self._iterate is not None:
            self._vector.array[...] = self._iterate
            self._vector.written()
            self._iterate = None

    def update(self, W, g, lr, t):
        look_ahead, W = W, self._iterate  # look_ahead = W + βv
        W_next = look_ahead - lr * g
        self.v = W_next - W
        self._iterate = None
        return W_next

    @property
    def weights(self):
        return super().weights if self._iterate is None else self._iterate.copy()

"""The base of all optimizers: it gathers W and g, asks for the rate, and writes what `update` returns."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import numpy as np

from minidl.backend import array_module, to_numpy
from minidl.optim.vector import gather
from minidl.tensor import Tensor

Schedule = Callable[[int], float]


class Optimizer:
    """The base of all optimizers.

    An optimizer is its equation: write `update(W, g, lr, t)`, which takes the weights and the gradient of the loss as
    vectors, this step's rate and its number t = 1, 2, …, and returns the new weights. Name its state vectors in
    `state`; they start at zero, and are saved and loaded.

    Parameters
    ----------
    params : Module or iterable of Tensors
        Every parameter that requires a gradient. They become views into one vector.
    lr : float or callable
        η. A callable takes the number of finished steps, from 0, and returns the rate of the next one.

    Examples
    --------
    >>> for x, y in loader:
    ...     optimizer.zero_grad()
    ...     loss = ops.cross_entropy(model(x), y)
    ...     loss.backward()
    ...     optimizer.step()
    """

    state: ClassVar[tuple[str, ...]] = ()

    def __init__(self, params: Any, lr: float | Schedule | None) -> None:
        self._vector = gather(_tensors(params))
        self.lr = lr if lr is None or callable(lr) else self.checked("lr", lr, least=0)
        self.t = 0
        for name in self.state:
            setattr(self, name, self._vector.zeros())

    def update(self, W: Any, g: Any, lr: Any, t: int) -> Any:
        raise TypeError(f"{type(self).__name__} has no update method")

    # -- a step

    def zero_grad(self) -> None:
        """Begin a step: forget the gradients of the last one."""
        for tensor in self._vector.tensors:
            tensor.grad = None

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """End a step: replace the weights by what `update` makes of them and the gradients.

        Parameters
        ----------
        closure : callable, optional
            Computes the loss, calls `backward` on it and returns it. `step` then begins the step too (`zero_grad`)
            and returns the loss.
        """
        loss = None
        if closure is not None:
            self.zero_grad()
            loss = closure()
        W, g, lr = self._vector.iterate, self._vector.gradient(), self.rate
        self.t += 1
        self._vector.write(self.update(W, g, lr, self.t))
        return loss

    @property
    def rate(self) -> float | None:
        """The learning rate of the next step; None for a method that has none."""
        return self.checked("lr", self.lr(self.t)) if callable(self.lr) else self.lr

    @property
    def params(self) -> tuple[Tensor, ...]:
        """The parameters, in the order in which they lie in the vector W."""
        return tuple(self._vector.tensors)

    @property
    def weights(self) -> Any:
        """A copy of W^t, the iterate after the last step, as one vector."""
        return self._vector.iterate.copy()

    # -- saving and loading

    def state_dict(self) -> dict[str, Any]:
        """Return the class's name, t, and copies of the state vectors, as NumPy arrays."""
        vectors = {name: np.array(to_numpy(getattr(self, name))) for name in self.state}
        return {"class": type(self).__name__, "t": self.t, **vectors}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` returned; the weights themselves are the model's to load.

        Raises
        ------
        ValueError
            If it is another class's, or an entry is missing, unexpected or mis-shaped. Nothing has been loaded then.
        """
        who = type(self).__name__
        expected = {"class", "t", *self.state}
        if state.keys() != expected:
            raise ValueError(f"{who}.load_state_dict: the entries are {sorted(state)}, expected {sorted(expected)}")
        if state["class"] != who:
            raise ValueError(f"{who}.load_state_dict: this is the state of {state['class']}")
        W = self._vector.iterate
        for name in self.state:
            if np.shape(state[name]) != W.shape:
                raise ValueError(f"{who}.load_state_dict: {name} has shape {np.shape(state[name])}, expected {W.shape}")
        self.t = int(state["t"])
        for name in self.state:
            setattr(self, name, array_module(W).array(state[name], dtype=W.dtype))

    # -- hyper-parameters

    def checked(self, name: str, value: float, least: float = 0.0, below: float = math.inf) -> float:
        """Return a hyper-parameter as a float if it is in [least, below); otherwise raise, naming it."""
        if not isinstance(value, (int, float, np.integer, np.floating)) or isinstance(value, bool):
            raise TypeError(f"{type(self).__name__}: {name} is {value!r}, expected a number")
        if not least <= value < below:
            bound = f"in [{least:g}, {below:g})" if below < math.inf else f"finite and at least {least:g}"
            raise ValueError(f"{type(self).__name__}: {name} is {value!r}, expected a number {bound}")
        return float(value)

    def __repr__(self) -> str:
        settings = {k: v for k, v in vars(self).items() if isinstance(v, (int, float, str)) and k != "t"}
        return f"{type(self).__name__}({', '.join(f'{k}={v}' for k, v in settings.items())})"


def _tensors(params: Any) -> list[Tensor]:
    """Return the Tensors to learn: a Module's or an iterable's, without frozen parameters of a Module."""
    if hasattr(params, "parameters"):
        return [parameter for parameter in params.parameters() if parameter.requires_grad]
    if isinstance(params, Tensor) or not isinstance(params, Iterable):
        raise TypeError(f"optimizer: params is {type(params).__name__}, expected a Module or an iterable of Tensors")
    return list(params)

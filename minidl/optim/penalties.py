"""Regularization of the loss: what is added to it, or pulls at the weights after the step."""

from __future__ import annotations

from typing import Any

from minidl.optim.vector import Layout


class Penalty:
    """The base: write `value` and its derivative `gradient`, or `pull`, the decoupled form.

    Attributes
    ----------
    decoupled : bool
        Whether the optimizer calls `pull` after its update, instead of adding `gradient` to the loss's.
    """

    decoupled = False

    def check(self, layout: Layout) -> None:
        """Raise if this penalty does not fit these parameters."""

    def value(self, W: Any, layout: Layout) -> float:
        """Return what is added to the loss."""
        raise TypeError(f"{type(self).__name__} has no value method")

    def gradient(self, W: Any, layout: Layout) -> Any:
        """Return the derivative of `value`, a vector like W."""
        raise TypeError(f"{type(self).__name__} has no gradient method")

    def pull(self, W: Any, before: Any, layout: Layout) -> Any:
        """Return the weights after the decoupled step; `W` is what the update made of `before`."""
        raise TypeError(f"{type(self).__name__} has no decoupled form")

"""Limits for the gradient."""

from __future__ import annotations

from typing import Any


class Clip:
    """The base: a function of the gradient vector g that returns the limited one."""

    def __call__(self, g: Any) -> Any:
        raise TypeError(f"{type(self).__name__} has no __call__ method")

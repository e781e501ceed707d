"""What all changes of images have in common, and how they are put together."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from minidl.backend import array_module


class Change:
    """The base: a frozen dataclass whose fields are its settings, with `apply`.

    It is called as ``change(x, generator)`` with images (B, H, W, C), floating-point in [0, 1], of NumPy's or CuPy's,
    and with a `numpy.random.Generator` or a `SampleGenerator`; it returns new images in [0, 1] of the same dtype. What
    it was given stays as it is. Every image is changed in a way of its own.

    Most changes clip to [0, 1]. So what leaves this range, as `Standardization` does, comes after all of them: a change
    after it would cut off all values below 0 and above 1.
    """

    strengths: ClassVar[tuple[str, ...]] = ()  # the settings that are 0 where nothing is changed

    def __call__(self, x: Any, generator: Any) -> Any:
        """Return the images, changed."""
        check_images(x, type(self).__name__)
        return self.apply(x, generator)

    def apply(self, x: Any, generator: Any) -> Any:
        raise NotImplementedError

    def times(self, factor: float) -> Self:
        """Return the same change with its strengths multiplied by a factor; 0 leaves every image as it is."""
        changed = {name: getattr(self, name) * factor for name in self.strengths}
        return dataclasses.replace(self, **changed)  # type: ignore[type-var]

    def __str__(self) -> str:
        """Return the name with the settings that are not the default ones, and always the strengths."""
        own = dataclasses.fields(self)  # type: ignore[arg-type]
        told = [
            f"{field.name}={_short(getattr(self, field.name))}"
            for field in own
            if field.name in self.strengths or getattr(self, field.name) is not field.default
        ]
        return f"{type(self).__name__}({', '.join(told)})"


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else repr(value)


@dataclass(frozen=True, init=False)
class compose(Change):
    """Makes several changes, one after the other: ``compose(crop(4), flip(), standardize)``.

    Standardization comes last: the other changes clip to [0, 1], and would damage images that were standardized.

    Examples
    --------
    >>> change = augment.compose(augment.crop(1), augment.flip(), augment.noise(0.05))
    >>> str(change)
    'crop(padding=1), flip(p=0.5), noise(deviation=0.05)'
    >>> train = data.Loader(x, y, 50, augment=change)
    """

    changes: tuple[Callable[[Any, Any], Any], ...]

    def __init__(self, *changes: Callable[[Any, Any], Any]) -> None:
        for change in changes:
            check_callable(change, "compose")
        object.__setattr__(self, "changes", changes)

    def __call__(self, x: Any, generator: Any) -> Any:
        """Return the images after all changes."""
        for change in self.changes:
            x = change(x, generator)
        return x

    def times(self, factor: float) -> compose:
        """Return the same changes with all their strengths multiplied by a factor."""
        return compose(*(change.times(factor) if isinstance(change, Change) else change for change in self.changes))

    def __repr__(self) -> str:
        return f"compose({', '.join(map(repr, self.changes))})"

    def __str__(self) -> str:
        return ", ".join(map(str, self.changes))


@dataclass(frozen=True)
class sometimes(Change):
    """Makes a change to each image with a probability.

    Parameters
    ----------
    change : callable
        It must keep the shape of the images.
    p : float in [0, 1], default 0.5
    """

    strengths: ClassVar = ("p",)
    change: Callable[[Any, Any], Any]
    p: float = 0.5

    def __post_init__(self) -> None:
        check_callable(self.change, "sometimes")
        check_number("sometimes", "p", self.p, 0, 1)

    def apply(self, x: Any, generator: Any) -> Any:
        chosen = per_image(x, generator.random(len(x)) < self.p)
        changed = self.change(x, generator)
        if changed.shape != x.shape:
            raise ValueError(f"sometimes: the change made {changed.shape} of images {x.shape}, expected the same shape")
        return array_module(x).where(chosen, changed, x)


# ---------------------------------------------------------------- what changes need


def per_image(x: Any, values: Any) -> Any:
    """Return one number or flag for each image as an array (B, 1, 1, 1) on their device, numbers in their dtype."""
    values = np.asarray(values)
    dtype = None if values.dtype == bool else x.dtype
    return beside(x, values.reshape(-1, 1, 1, 1), dtype)


def beside(x: Any, values: Any, dtype: Any = None) -> Any:
    """Return what was drawn, on the device of the images."""
    return array_module(x).asarray(values, dtype)


def clipped(x: Any) -> Any:
    """Return the images with all values in [0, 1], in their own memory."""
    return array_module(x).clip(x, 0, 1, out=x)


def check_images(x: Any, who: str) -> None:
    """Raise unless these are images of floating-point numbers."""
    if getattr(x, "ndim", None) != 4 or x.shape[1] == 0 or x.shape[2] == 0:
        raise ValueError(f"{who}: x has shape {np.shape(x)}, expected images (B, H, W, C)")
    if x.dtype.kind != "f":
        hint = "; a Loader makes them of bytes, or x / np.float32(255)" if x.dtype == np.uint8 else ""
        raise TypeError(f"{who}: x has dtype {x.dtype}, expected floating-point numbers in [0, 1]{hint}")


def check_number(who: str, name: str, value: Any, low: float = 0.0, high: float = math.inf) -> None:
    """Raise unless this setting is a finite number from `low` to `high`."""
    bounds = f"[{low:g}, {high:g}]" if high < math.inf else f"[{low:g}, inf)"
    if not isinstance(value, (int, float, np.integer, np.floating)) or isinstance(value, bool):
        raise TypeError(f"{who}: {name} is {value!r}, expected a number in {bounds}")
    if not (low <= value <= high and math.isfinite(value)):
        raise ValueError(f"{who}: {name} is {value!r}, expected a number in {bounds}")


def check_integer(who: str, name: str, value: Any, least: int) -> None:
    """Raise unless this setting is an integer of at least `least`."""
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool):
        raise TypeError(f"{who}: {name} is {value!r}, expected an integer of at least {least}")
    if value < least:
        raise ValueError(f"{who}: {name} is {value!r}, expected an integer of at least {least}")


def check_range(who: str, name: str, value: Any, low: float, high: float = math.inf) -> None:
    """Raise unless this setting is a pair of rising numbers from `low` to `high`."""
    if not isinstance(value, tuple) or len(value) != 2:
        raise TypeError(f"{who}: {name} is {value!r}, expected a pair of numbers")
    for end in value:
        check_number(who, name, end, low, high)
    if value[0] > value[1]:
        raise ValueError(f"{who}: {name} is {value!r}, expected rising numbers")


def check_one_of(who: str, name: str, value: Any, known: tuple[str, ...]) -> None:
    """Raise unless this setting is one of the known ones."""
    if value not in known:
        raise ValueError(f"{who}: {name} is {value!r}, expected one of {', '.join(map(repr, known))}")


def check_callable(change: Any, who: str) -> None:
    """Raise unless this can be called."""
    if not callable(change):
        raise TypeError(f"{who}: a change is {change!r}, expected a callable")

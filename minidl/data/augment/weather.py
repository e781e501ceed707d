"""Rain, and a sun that shines into the lens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from minidl import threads
from minidl.backend import array_module
from minidl.data.augment.change import Change, beside, check_number, per_image

RAIN_COLOUR = 0.85
LONG = 0.3  # a streak of 1 of length is so long, of the image's height
POINTS = 2**15  # of streaks, drawn at a time: their arrays stay small, however many images and drops there are


@dataclass(frozen=True)
class rain(Change):
    """Draws streaks of rain, all of an image in about one direction, and makes the image duller.

    Parameters
    ----------
    strength : float in [0, 1], default 0.7
        How opaque the streaks are; the image loses a third of this share of its contrast.
    density : float in [0, 1], default 0.04
        The share of the pixels at which a streak begins is drawn from [density / 2, density].
    slant : float in [0, 60], default 20
        The angle from the vertical, in degrees, is drawn from [−slant, slant].
    """

    strengths: ClassVar = ("strength",)
    strength: float = 0.7
    density: float = 0.04
    slant: float = 20.0

    def __post_init__(self) -> None:
        check_number("rain", "strength", self.strength, 0, 1)
        check_number("rain", "density", self.density, 0, 1)
        check_number("rain", "slant", self.slant, 0, 60)

    def apply(self, x: Any, generator: Any) -> Any:
        xp = array_module(x)
        count, height, width, _ = x.shape
        water = beside(x, self._water(count, height, width, generator), x.dtype)[..., None]
        mean = x.mean(axis=(1, 2, 3), keepdims=True, dtype=np.float64).astype(x.dtype)
        dull = x + x.dtype.type(self.strength / 3) * (mean - x)
        share = x.dtype.type(self.strength) * water
        return xp.clip(dull * (1 - share) + share * x.dtype.type(RAIN_COLOUR), 0, 1)

    def _water(self, count: int, height: int, width: int, generator: Any) -> Any:
        """Return how much of each pixel is covered, (B, H, W) in [0, 1]: each streak is a line of points."""
        drops = max(1, round(self.density * height * width))
        shown = np.arange(drops) < drops * generator.uniform(0.5, 1, count)[:, None]
        tan = np.tan(np.deg2rad(generator.uniform(-self.slant, self.slant, count)))[:, None]
        top = generator.uniform(-LONG, 1, (count, drops)) * height
        left = generator.uniform(-LONG, 1 + LONG, (count, drops)) * width
        length = np.maximum(2, height * LONG * generator.uniform(0.4, 1, (count, drops)))
        opacity = generator.uniform(0.3, 1, (count, drops))
        steps = np.arange(int(np.ceil(max(2, height * LONG))))
        opacity = np.where(shown, opacity, 0)
        water = np.zeros((count, height * width))
        streaks = max(1, POINTS // len(steps))  # depends on the image alone, as the order of its sums does

        def draw(images: slice) -> None:
            pixels = water[images].reshape(-1)
            for i in range(0, drops, streaks):
                some = images, slice(i, i + streaks)
                image, drop, step = np.nonzero((opacity[some] > 0)[..., None] & (steps < length[some][..., None]))
                row = np.floor(top[some])[image, drop] + step
                column = left[some][image, drop] + tan[images][image, 0] * step
                weight, first = opacity[some][image, drop], np.floor(column)
                for place, part in ((first, 1 - (column - first)), (first + 1, column - first)):
                    inside = (row >= 0) & (row < height) & (place >= 0) & (place < width)
                    pixel = ((image * height + row) * width + place)[inside].astype(np.int64)
                    np.add.at(pixels, pixel, (weight * part)[inside])

        few = max(1, POINTS // (drops * len(steps)))
        threads.share(draw, [slice(i, i + few) for i in range(0, count, few)])
        return np.minimum(water, 1).reshape(count, height, width)


@dataclass(frozen=True)
class sun_flare(Change):
    r"""Lets the sun shine into the lens: a glow in the upper half, its rays, and rings on the line through the middle.

    Light is added as on a screen, :math:`x' = 1 - (1 - x)(1 - l)`, so that nothing gets darker or leaves [0, 1].

    Parameters
    ----------
    strength : float in [0, 1], default 0.9
        The brightness in the middle of the sun is drawn from [0.7 strength, strength].
    """

    strengths: ClassVar = ("strength",)
    strength: float = 0.9

    def __post_init__(self) -> None:
        check_number("sun_flare", "strength", self.strength, 0, 1)

    def apply(self, x: Any, generator: Any) -> Any:
        count, height, width, channels = x.shape
        bright = self.strength * generator.uniform(0.7, 1, count)
        sun = np.stack([generator.uniform(0, 0.4, count), generator.uniform(0.1, 0.9, count)])[..., None, None]
        size = generator.uniform(0.12, 0.25, count)[:, None, None]
        turn = generator.uniform(0, 2 * np.pi, count)[:, None, None]
        places = np.meshgrid((np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width, indexing="ij")

        def polar(centre: Any) -> tuple[Any, Any]:
            down, right = places[0] - centre[0], places[1] - centre[1]
            return np.hypot(down, right), np.arctan2(down, right)

        radius, angle = polar(sun)
        rays = np.maximum(0, np.cos(6 * (angle + turn))) ** 8 * np.exp(-radius / (2 * size))
        core = np.exp(-((radius / size) ** 4)) + 0.5 * np.exp(-radius / (2 * size))
        tint = np.array([1.0, 0.93, 0.75])  # of the sun; the rings, by the glass, are redder or bluer
        light = (core + 0.5 * rays)[..., None] * tint
        for along, wide, strong, colour in (
            (0.6, 0.05, 0.35, (1.0, 0.8, 0.5)),
            (1.3, 0.08, 0.30, (0.6, 1.0, 0.7)),
            (1.7, 0.12, 0.25, (0.6, 0.7, 1.0)),
        ):
            radius, _ = polar(sun + along * (0.5 - sun))
            ring = 1 / (1 + np.exp((radius - wide) / 0.012))
            light += strong * ring[..., None] * np.array(colour)
        light = light if channels == 3 else np.repeat(light.mean(axis=3, keepdims=True), channels, axis=3)
        light = per_image(x, bright) * beside(x, np.minimum(light, 1), x.dtype)
        return array_module(x).clip(x + (1 - x) * light, 0, 1)

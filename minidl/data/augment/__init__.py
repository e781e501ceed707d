"""Changes of images, for `Loader(…, augment=…)` and alone: ``augment.rotate(15)(x, np.random.default_rng(0))``.

Every change is called with images (B, H, W, C), floating-point in [0, 1], and a generator, and returns new ones. At
strength 0 it returns what it was given. Blends change the labels too: `Loader(…, blend=…)`.
"""

from typing import Any

from minidl import expressions
from minidl.data.augment.blending import cutmix, mixup
from minidl.data.augment.change import Change, compose, sometimes
from minidl.data.augment.geometry import affine, crop, crop_flip, elastic, flip, rotate, scale, shift
from minidl.data.augment.intensity import blur, brightness, contrast, noise, shuffle_channels
from minidl.data.augment.occlusion import background, erase
from minidl.data.augment.weather import rain, sun_flare

CHANGES: dict[str, type[Change]] = {
    change.__name__: change
    for change in (
        *(rotate, scale, shift, affine, crop, flip, crop_flip, elastic),
        *(brightness, contrast, noise, blur, shuffle_channels),
        *(erase, background, rain, sun_flare),
    )
}
BLENDS: dict[str, Any] = {blend.__name__: blend for blend in (mixup, cutmix)}


def parse(text: str) -> compose:
    """Return the changes that a text names, as in ``parse("crop(4), flip, rotate(degrees=10)")``.

    Raises
    ------
    ValueError
        Naming what is not understood, or the known names.
    """
    return compose(*expressions.parse(text, CHANGES, "augment", "crop(4), flip, rotate(10)"))


__all__ = [
    "BLENDS",
    "CHANGES",
    "Change",
    "affine",
    "background",
    "blur",
    "brightness",
    "compose",
    "contrast",
    "crop",
    "crop_flip",
    "cutmix",
    "elastic",
    "erase",
    "flip",
    "mixup",
    "noise",
    "parse",
    "rain",
    "rotate",
    "scale",
    "shift",
    "shuffle_channels",
    "sometimes",
    "sun_flare",
]

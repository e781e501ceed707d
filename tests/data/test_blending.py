"""What blends do to images that are no longer in [0, 1]."""

from __future__ import annotations

import numpy as np
import pytest

from minidl import data
from minidl.data import augment


@pytest.mark.parametrize("blend", [augment.mixup(3, alpha=1.0), augment.cutmix(3)], ids=["mixup", "cutmix"])
def test_standardized_images_are_not_clipped(blend, rng):
    x = rng.integers(0, 256, (30, 6, 6, 2)).astype(np.uint8)
    y = rng.integers(0, 3, 30)
    loader = data.Loader(x, y, 30, shuffle=False, augment=data.Standardization(x), blend=blend)
    ((blended, shares),) = loader
    ((plain, _),) = data.Loader(x, y, 30, shuffle=False, augment=data.Standardization(x))
    assert blended.min() < -1
    assert blended.max() > 1
    assert (blended >= plain.min(axis=0)).all()
    assert (blended <= plain.max(axis=0)).all()
    assert (shares.max(axis=1) < 1).sum() > 10


def test_without_strength_nothing_changes(rng):
    x, y = rng.standard_normal((8, 4, 4, 1)).astype(np.float32), np.arange(8) % 3
    for blend in (augment.mixup(3, alpha=0), augment.cutmix(3, alpha=0)):
        blended, shares = blend(x, y, np.random.default_rng(0))
        np.testing.assert_array_equal(blended, x)
        np.testing.assert_array_equal(shares, np.eye(3)[y])

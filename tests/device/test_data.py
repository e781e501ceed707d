"""Batches on the device: augmented and blended as on the CPU."""

from __future__ import annotations

import numpy as np
import pytest

from minidl import backend, data
from minidl.data import augment

from devices import devices_of, on

RNG = np.random.default_rng(0)
X, Y = RNG.random((6, 9, 8, 3), dtype=np.float32), np.arange(6) % 3


def batches(**settings):
    found = list(data.Loader(X, Y, 4, seed=2, **settings))
    assert devices_of(*(array for batch in found for array in batch)) == {backend.device()}
    return [backend.to_numpy(array) for batch in found for array in batch]


def assert_same_on_the_cpu(**settings):
    here = batches(**settings)
    with on("cpu"):
        there = batches(**settings)
    for array, other in zip(here, there, strict=True):
        np.testing.assert_allclose(array, other, rtol=1e-4, atol=1e-4)
    return here


@pytest.mark.parametrize("name", sorted(augment.CHANGES))
def test_images_are_changed_as_on_the_cpu(name, device_library):
    changed = assert_same_on_the_cpu(augment=augment.CHANGES[name](**({"degrees": 20} if name == "affine" else {})))
    assert any((array != other).any() for array, other in zip(changed, batches(), strict=True))


@pytest.mark.parametrize("name", sorted(augment.BLENDS))
def test_images_are_blended_as_on_the_cpu(name, device_library):
    assert_same_on_the_cpu(blend=augment.BLENDS[name](classes=3))


@pytest.mark.parametrize("resident", [False, True])
def test_batches_are_those_of_the_cpu(resident, device_library):
    assert_same_on_the_cpu(resident=resident)

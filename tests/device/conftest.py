"""Every test here runs twice: by default on the stand-in for CuPy, and with `-m gpu` on a GPU."""

from __future__ import annotations

import importlib

import pytest

import minidl as ml

import devices


@pytest.fixture(params=[devices.STANDIN, devices.GPU])
def device_library(request):
    """CuPy, or what stands in for it; the current device is the GPU."""
    if request.param == devices.STANDIN:
        with devices.standin() as cupy:
            yield cupy
    else:
        ml.use_device("gpu")
        yield importlib.import_module("cupy")
        ml.use_device("cpu")


@pytest.fixture
def example_count(device_library):
    """How many examples of each kind are tried: few on the stand-in, where a kernel takes longest to compile."""
    return 6 if device_library.cuda.runtime.getDeviceProperties(0)["name"] == b"stand-in" else None


@pytest.fixture
def real_gpu(device_library):
    """Skips what the stand-in cannot play."""
    if device_library.cuda.runtime.getDeviceProperties(0)["name"] == b"stand-in":
        pytest.skip("for a GPU only")
    return device_library

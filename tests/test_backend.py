"""Devices, the reason why there is no GPU, and the generators."""

from __future__ import annotations

import ctypes
import re
import subprocess
import sys
import threading
import types

import numpy as np
import pytest

import minidl as ml
from minidl import backend


def test_array_module_of_numpy_arrays_numbers_and_foreign_objects():
    for x in (np.zeros(2), np.float32(1), 3.0, [1, 2]):
        assert backend.array_module(x) is np


def test_array_module_of_a_cupy_array_is_cupy(monkeypatch):
    cupy = types.ModuleType("cupy")
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    array = type("ndarray", (), {"__module__": "cupy"})()
    assert backend.array_module(array) is cupy


def test_device_is_the_cpu_until_another_is_chosen():
    assert ml.device() == "cpu"
    assert ml.use_device("cpu") == "cpu"


def test_use_device_lists_the_valid_names():
    with pytest.raises(ValueError, match="name is 'tpu', expected one of 'cpu', 'gpu', 'auto'"):
        ml.use_device("tpu")


def _without(monkeypatch, *, package=True, driver=True, devices=1, cuda=12080, distributions=("cupy-cuda12x",)):
    """Pretend that parts of a GPU installation are there and others are not."""
    spec = object() if package else None
    monkeypatch.setattr(backend, "_installed", lambda name: name in distributions)
    monkeypatch.setattr(backend.importlib.util, "find_spec", lambda name: spec)

    class Driver:
        @staticmethod
        def cuInit(flags):
            return 0

        @staticmethod
        def cuDeviceGetCount(count):
            ctypes.cast(count, ctypes.POINTER(ctypes.c_int))[0] = devices
            return 0

        @staticmethod
        def cuDriverGetVersion(version):
            ctypes.cast(version, ctypes.POINTER(ctypes.c_int))[0] = cuda
            return 0

    def load(name):
        if not driver:
            raise OSError(name)
        return Driver

    monkeypatch.setattr(backend.ctypes, "CDLL", load)


@pytest.mark.parametrize(
    ("missing", "reason"),
    [
        ({"package": False}, "CuPy is not installed"),
        ({"driver": False}, "no NVIDIA driver"),
        ({"devices": 0}, "finds no GPU"),
        (
            {"distributions": ("cupy-cuda13x",)},
            r"cupy-cuda13x needs CUDA 13, the driver supports CUDA 12.8: pip install 'minidl\[gpu\]'",
        ),
        ({"cuda": 11040}, "cupy-cuda12x needs CUDA 12, the driver supports CUDA 11.4: a newer driver is needed"),
        ({"distributions": ("cupy-cuda12x", "cupy-cuda13x")}, "only one may be"),
    ],
)
def test_gpu_status_names_the_first_thing_that_is_missing(monkeypatch, missing, reason):
    _without(monkeypatch, **missing)
    status = ml.gpu_status()
    assert not status
    assert re.search(reason, str(status))
    with pytest.raises(RuntimeError, match=reason):
        ml.use_device("gpu")
    assert ml.use_device("auto") == "cpu"


def test_gpu_status_reports_what_cupy_raises(monkeypatch):
    _without(monkeypatch)

    def fail(name):
        raise RuntimeError("CUDARuntimeError: no NVRTC")

    monkeypatch.setattr(backend.importlib, "import_module", fail)
    assert "CuPy cannot use the GPU: RuntimeError: CUDARuntimeError: no NVRTC" in ml.gpu_status().reason


def test_importing_minidl_does_not_import_cupy_scipy_or_matplotlib():
    code = "import sys, minidl; print([m for m in ('cupy', 'scipy', 'matplotlib', 'rich') if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_manual_seed_restarts_the_generator_of_its_thread():
    first = ml.manual_seed(7).random(3)
    ml.manual_seed(7)
    np.testing.assert_array_equal(backend.default_generator().random(3), first)

    drawn = []

    def elsewhere():
        ml.manual_seed(7)
        drawn.append(backend.default_generator().random(3))

    before = backend.default_generator().bit_generator.state
    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    np.testing.assert_array_equal(drawn[0], first)
    assert backend.default_generator().bit_generator.state == before


@pytest.mark.parametrize(("seed", "error"), [(-1, ValueError), (1.5, TypeError), ("a", TypeError), (True, TypeError)])
def test_manual_seed_wants_a_non_negative_integer(seed, error):
    with pytest.raises(error, match="expected a non-negative integer"):
        ml.manual_seed(seed)

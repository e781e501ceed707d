"""Helpers for tests that run on a GPU, and here on the stand-in for CuPy."""

from __future__ import annotations

import contextlib
import importlib

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

import minidl as ml
from minidl import backend

# On the stand-in most of the time is g++'s, for each kernel in float and in double: what needs the other again is slow.
STANDIN, GPU = "standin", pytest.param("gpu", marks=pytest.mark.gpu)
mostly_on_a_gpu = pytest.mark.parametrize(
    "device_library", [pytest.param(STANDIN, marks=pytest.mark.slow), GPU], indirect=True
)


def has_pytorch():
    """Say whether PyTorch is there, and import it: best before the stand-in, whose modules it would look at."""
    try:
        import torch  # noqa: F401
    except ImportError:
        return False
    return True


@contextlib.contextmanager
def standin():
    """Let the stand-in be `cupy` in this context, the current device the GPU, and the GPU usable."""
    package, gpu_status = importlib.import_module("standin"), backend.gpu_status
    for module in package.MODULES.values():
        vars(module).setdefault("__file__", None)  # Hypothesis asks for it
    backend.gpu_status = lambda: backend.GpuStatus(True, "the stand-in")
    try:
        with package.installed() as cupy:
            yield cupy
    finally:
        backend.gpu_status = gpu_status


@contextlib.contextmanager
def on(device):
    """Let `device` be the current one in this context."""
    before, tf32 = backend.device(), backend.tf32()
    ml.use_device(device)
    try:
        yield
    finally:
        ml.use_device(before, tf32=tf32)


def examples(count, check):
    """Call check(data) for so many examples that Hypothesis draws; None for the number of its profile."""
    test = given(data=st.data())(check)
    (test if count is None else settings(max_examples=count)(test))()


def on_host(*arrays):
    """Return arrays as NumPy's."""
    return [backend.to_numpy(array) for array in arrays]


def devices_of(*arrays):
    """Return the devices that arrays lie on, None left out."""
    return {backend.device_of(array) for array in arrays if array is not None}

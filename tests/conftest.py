"""Settings and fixtures that all tests share."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import hypothesis
import numpy as np
import pytest

import minidl as ml

hypothesis.settings.register_profile(
    "default", max_examples=25, deadline=None, derandomize=True, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.register_profile("intense", parent=hypothesis.settings.get_profile("default"), max_examples=500)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@pytest.fixture(autouse=True, scope="session")
def _interruptible():
    """Ctrl-C raises KeyboardInterrupt, also where a shell runs the tests in its background and lets them ignore it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _seeded():
    """Every test starts from the same default generator."""
    ml.manual_seed(0)


@pytest.fixture
def rng():
    return np.random.default_rng(12345)


@pytest.fixture
def torch():
    """PyTorch, the oracle, in float64 by default."""
    return pytest.importorskip("torch", reason="needs the extra 'oracle': pip install '.[oracle]'")


@pytest.fixture
def standin():
    """CuPy, played by arrays in host memory and the emulator of kernels; the current device is the GPU."""
    import standin

    with standin.installed() as cupy:
        yield cupy


def pytest_collection_modifyitems(items):
    """Skip tests that need real data or a GPU, with the reason why there is none."""
    root = os.environ.get("MINIDL_DATA")
    no_data = None
    if not root:
        no_data = "MINIDL_DATA is not set"
    elif not Path(root).is_dir():
        no_data = f"MINIDL_DATA is {root}, which is not a folder"
    for item in items:
        if no_data and item.get_closest_marker("data"):
            item.add_marker(pytest.mark.skip(reason=no_data))
        if item.get_closest_marker("gpu") and not ml.gpu_status():
            item.add_marker(pytest.mark.skip(reason=ml.gpu_status().reason))

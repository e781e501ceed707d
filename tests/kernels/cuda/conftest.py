"""While a test runs, launch code asks for kernels of the lists `VARIANTS` only: those that test_compile.py compiles."""

from __future__ import annotations

import pytest

from minidl.kernels.cuda import launch

import nvrtc


@pytest.fixture(autouse=True)
def _listed(monkeypatch):
    kernel = launch.kernel

    def checked(source, name, dtype, **defines):
        own_source = (launch.FOLDER / source).exists()
        assert not own_source or nvrtc.is_listed(source, dtype, defines), f"{source} with {defines} is in no VARIANTS"
        return kernel(source, name, dtype, **defines)

    monkeypatch.setattr(launch, "kernel", checked)

"""Training steps on odd shapes, with the kernels compiled so that an access outside of an array ends the process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from minidl import emulator

TESTS = Path(__file__).parent.parent.parent

PROGRAM = """
import numpy as np

import minidl as ml
import standin
from minidl import backend, nn, ops, optim

with standin.installed():
    rng = np.random.default_rng(0)
    for channels in (3, 4):
        model = nn.Sequential(
            conv=nn.Conv2d(channels, 5, 3, stride=2, padding=1),
            norm=nn.BatchNorm(5, relu=True),
            wide=nn.Conv2d(5, 8, (5, 3), padding="same"),
            largest=nn.MaxPool2d(3, 2),
            mean=nn.AvgPool2d(2, 1),
            drop=nn.Dropout(0.3),
            flat=nn.Flatten(),
            dense=nn.Dense(8 * 2 * 1, 7),
        )
        optimizer = optim.Adam(model)
        x = backend.asarray(rng.random((3, 13, 11, channels), dtype=np.float32))
        y = backend.asarray(np.array([6, 0, 3]))
        for loss in (nn.CrossEntropy(), nn.ResidualSmoothing(0.5)):
            for _ in range(2):
                optimizer.zero_grad()
                value = loss(model(x), y, 0.5)
                value.backward()
                optimizer.step()
            assert np.isfinite(value.item())
            for parameter in model.parameters():
                assert np.isfinite(parameter.grad.get()).all()
print("done")
"""


@pytest.mark.slow
@pytest.mark.parametrize("sanitizer", ["address", "bounds"])
def test_no_kernel_leaves_its_arrays(sanitizer):
    environment = dict(os.environ) | {"PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)])}
    if sanitizer == "address":
        environment |= emulator.sanitizer_environment()
    else:
        environment["MINIDL_EMULATOR_FLAGS"] = "-fsanitize=bounds"
    ended = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True)
    assert ended.stdout.endswith("done\n"), ended.stderr[-3000:]

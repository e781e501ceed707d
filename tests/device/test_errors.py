"""What is said where something is wrong on the device, and how exact TF32 is."""

from __future__ import annotations

import shutil
import subprocess
import sys

import numpy as np
import pytest

import minidl as ml
from minidl import backend, nn, ops

from devices import on


def test_new_tensors_are_made_on_the_chosen_device(device_library):
    assert ml.device() == "gpu"
    assert backend.array_module(ml.Tensor([1.0, 2.0]).data) is device_library
    assert isinstance(ml.Tensor([1.0, 2.0]).numpy(), np.ndarray)
    with on("cpu"):
        assert backend.array_module(ml.Tensor([1.0, 2.0]).data) is np


def test_arguments_on_two_devices_are_named(device_library):
    w = ml.Tensor(np.ones((3, 3, 1, 2)))
    with on("cpu"):
        x = ml.Tensor(np.ones((1, 4, 4, 1)))
    for call in (lambda: ops.conv2d(x, w), lambda: ops.conv2d(np.ones((1, 4, 4, 1), np.float32), w)):
        with pytest.raises(TypeError, match="conv2d: w is on the GPU and x on the CPU; move one: `model.to"):
            call()
    with pytest.raises(TypeError, match="add: x is on the GPU and y on the CPU"):
        ops.add(ml.Tensor([1.0, 2.0]), x.reshape(16))
    layer = nn.Dense(4, 2)
    with on("cpu"), pytest.raises(TypeError, match="is on the GPU and"):
        layer(ml.Tensor(np.ones((1, 4))))


def test_a_result_that_does_not_fit_is_named_with_what_is_free(real_gpu):
    x = ml.Tensor(np.ones((2**21, 1)))
    with pytest.raises(MemoryError, match=r"no memory on the GPU for the result of .* bytes are free"):
        ops.broadcast_to(x, (2**21, 2**21)) * 2.0
    assert ops.relu(ml.Tensor([1.0])).item() == 1


def distance(result, exact):
    return np.linalg.norm(result - exact) / np.linalg.norm(exact)


def convolved(dtype):
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((4, 10, 10, 32)), rng.standard_normal((3, 3, 32, 64))
    leaves = [ml.Tensor(each.astype(dtype), requires_grad=True) for each in (x, w)]
    y = ops.conv2d(*leaves, padding=1)
    y.backward(np.random.default_rng(1).standard_normal(y.shape).astype(dtype))
    return [y.numpy(), *(backend.to_numpy(leaf.grad) for leaf in leaves)]


def test_tf32_rounds_to_eleven_bits_and_float32_does_not(device_library):
    with on("cpu"):
        exact = convolved(np.float64)
    if int(device_library.cuda.Device().compute_capability) < 80:
        pytest.skip("before compute capability 8.0 there are no units for TF32")
    assert max(map(distance, convolved(np.float32), exact)) < 3e-6
    ml.use_device("gpu", tf32=True)
    rounded = list(map(distance, convolved(np.float32), exact))
    assert all(3e-5 < error < 2e-3 for error in rounded)
    assert max(map(distance, convolved(np.float64), exact)) < 1e-12
    ml.use_device("gpu")
    assert max(map(distance, convolved(np.float32), exact)) < 3e-6


SANITIZED = """
import numpy as np
import minidl as ml
from minidl import ops

ml.use_device("gpu")
rng = np.random.default_rng(0)
for dtype in (np.float32, np.float64):
    x, w, gamma = (ml.Tensor(rng.standard_normal(shape).astype(dtype), requires_grad=True)
                   for shape in ((3, 7, 9, 5), (3, 3, 5, 6), (6,)))
    y = ops.conv2d(x, w, padding=1)
    y = ops.max_pool2d(ops.batch_norm(y, gamma, gamma, relu=True), 3, 2)
    y = ops.dropout(y.reshape(3, -1), 0.3)
    loss = ops.cross_entropy(ops.residual_smoothing(y, 0.5, 1.0), np.arange(3))
    loss.backward()
    assert np.isfinite(loss.item())
print("done")
"""


@pytest.mark.parametrize("tool", ["memcheck", "racecheck", "initcheck", "synccheck"])
def test_compute_sanitizer_finds_nothing(tool, real_gpu):
    program = shutil.which("compute-sanitizer") or shutil.which("/usr/local/cuda/bin/compute-sanitizer")
    if program is None:
        pytest.skip("compute-sanitizer is not on the PATH")
    command = [program, "--tool", tool, "--error-exitcode", "9", sys.executable, "-c", SANITIZED]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    output = done.stdout + done.stderr
    if "not supported" in output.lower() and "done" not in output:
        pytest.skip(f"compute-sanitizer cannot run here: {output[-300:]}")
    assert done.returncode == 0, output[-3000:]
    assert "done" in output

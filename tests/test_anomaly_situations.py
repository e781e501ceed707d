"""`ml.detect_anomaly` names the right op: op by op, in a Trainer, with fused ops, and where arrays lie on a GPU."""

from __future__ import annotations

import numpy as np
import pytest

import minidl as ml
from minidl import backend, data, nn, ops, optim, training

pytestmark = pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")

INF = np.inf


def leaf(*values, dtype=np.float32):
    return ml.Tensor(backend.asarray(np.array(values, dtype)), requires_grad=True)


def like(array):
    return backend.asarray(np.array(array, np.float32))


FORWARD = {  # what is computed, the op that makes the first NaN, and its place
    "log": (lambda: ops.exp(ops.log(leaf(1.0, -1.0)) * 2.0), r"\(1\)"),
    "sqrt": (lambda: ops.sum(ops.sqrt(leaf(4.0, -1.0)) + 1.0), r"\(1\)"),
    "divide": (lambda: leaf(1.0, 0.0) * 2.0 / leaf(1.0, 0.0), r"\(1\)"),
    "subtract": (lambda: ops.relu(leaf(INF) - leaf(INF)), r"\(0\)"),
    "multiply": (lambda: ops.relu(leaf(1.0, INF) * leaf(1.0, 0.0)), r"\(1\)"),
    "power": (lambda: (leaf(1.0, 2.0) - 3.0) ** 0.5, r"\(0\)"),
    "softmax": (lambda: ops.log(ops.softmax(leaf([1.0, 0.0], [INF, 0.0]))), r"\(1, 0\)"),
    "log_softmax": (lambda: ops.log_softmax(leaf([-INF, -INF])) * 1.0, r"\(0, 0\)"),
    "cross_entropy": (lambda: ops.cross_entropy(leaf([0.0, INF]), like([[0.5, 0.5]])) + 1.0, r"\(\)"),
    "mse": (lambda: ops.mse(leaf(INF, 0.0), like([INF, 0.0])) * 0.5, r"\(\)"),
    "matmul": (lambda: ops.relu(leaf([INF, 1.0]) @ leaf([0.0], [1.0])), r"\(0, 0\)"),
    "sin": (lambda: ops.sin(leaf(0.0, INF)) + ops.cos(leaf(0.0, 1.0)), r"\(1\)"),
    "standardize": (lambda: ops.standardize(leaf([1.0, INF]), 1), r"\(0, 0\)"),
    "batch_norm": (lambda: batch_norm(leaf([1.0, INF], [2.0, 3.0])) * 2.0, r"\(0, 1\)"),
}


def batch_norm(x, relu=False):
    channels = x.shape[-1]
    return ops.batch_norm(x, like(np.ones(channels)), like(np.zeros(channels)), relu=relu)


OVERFLOW = {  # the op that makes the first infinity
    "exp": lambda: ops.log(ops.exp(leaf(1.0, 100.0))),
    "matmul": lambda: leaf([3e38, 3e38]) @ leaf([1.0], [1.0]),
    "multiply": lambda: ops.tanh(leaf(1e30) * leaf(1e30)),
    "divide": lambda: ops.tanh(leaf(1e30) / leaf(1e-30)),
    "sum": lambda: ops.tanh(ops.sum(leaf(3e38, 3e38))),
    "mse": lambda: ops.mse(leaf(1e30), like([0.0])) * 1e-30,
    "conv2d": lambda: ops.relu(ops.conv2d(leaf([[[1e30]]]), leaf([[[1e30]]]))),
}

BACKWARD = {  # the derivative that makes the first NaN: 0 · ∞, or of a gradient that came as NaN
    "sqrt": lambda: ops.sum(ops.sqrt(leaf(0.0, 4.0)) * 0.0),
    "log": lambda: ops.sum(ops.where(like([0, 1]) > 0, ops.log(leaf(0.0, 4.0)), 0.0)),
    "power": lambda: ops.sum(leaf(0.0, 4.0) ** 0.5 * 0.0),
    "exp": lambda: ops.sum(ops.minimum(ops.exp(leaf(100.0)), 1.0)),
    "divide": lambda: ops.sum(ops.where(like([0, 1]) > 0, 1.0 / leaf(0.0, 4.0), 0.0)),
    "tanh": lambda: ops.sum(ops.tanh(leaf(1.0, 2.0))),
    "batch_norm": lambda: ops.sum(batch_norm(leaf([1.0, 2.0], [2.0, 3.0]), relu=True)),
}
CAME_AS_NAN = ("tanh", "batch_norm")


@pytest.fixture(params=["cpu", "gpu"])
def device(request):
    """Both devices; the GPU is played by the stand-in."""
    if request.param == "gpu":
        request.getfixturevalue("standin")
    return request.param


@pytest.mark.parametrize("op", FORWARD)
def test_forward(op, device):
    compute, place = FORWARD[op]
    with ml.detect_anomaly(), pytest.raises(ml.AnomalyError, match=rf"^{op}: the result holds nan at {place}; "):
        compute()


@pytest.mark.parametrize("op", OVERFLOW)
def test_overflow(op, device):
    with (
        ml.detect_anomaly(infinite=True),
        pytest.raises(ml.AnomalyError, match=rf"^{op}: the result holds inf at \(.*lies in"),
    ):
        OVERFLOW[op]()


@pytest.mark.parametrize("op", BACKWARD)
def test_backward(op, device):
    with ml.detect_anomaly():
        y = BACKWARD[op]()
        g = None
        if op in CAME_AS_NAN:
            g, op = like(np.nan), "sum"  # the first that sees it
        match = rf"(?s)^{op}: the gradient with respect to x holds nan at .*test_anomaly_situations\.py"
        if op == "divide":
            match = match.replace("to x", "to y")
        with pytest.raises(ml.AnomalyError, match=match):
            y.backward(g)


# ---------------------------------------------------------------- in a Trainer


class Logarithm(nn.Module):
    """Takes the logarithm of what may be negative."""

    def forward(self, x):
        return ops.log(x)


def fit(model, x, infinite=False, loss=None):
    ml.manual_seed(0)
    optimizer = optim.Adam(model, lr=0.1)
    before = optimizer.weights
    trainer = training.Trainer(model, optimizer, loss, progress=False)
    with ml.detect_anomaly(infinite), pytest.raises(ml.AnomalyError) as caught:
        trainer.fit(data.Loader(x, np.arange(len(x)) % 2, len(x)), epochs=3)
    np.testing.assert_array_equal(backend.to_numpy(optimizer.weights), backend.to_numpy(before))
    assert trainer.history.stopped == "an error"
    return str(caught.value)


def test_in_a_trainer_with_a_layer_of_ones_own(device):
    ml.manual_seed(0)
    x = np.random.default_rng(0).standard_normal((8, 3)).astype(np.float32)
    model = nn.Sequential(nn.Dense(3, 4), Logarithm(), nn.Dense(4, 2))
    message = fit(model, x)
    assert message.startswith("log: the result holds nan at (")
    assert "x has shape (8, 4)" in message


class Exponential(nn.Module):
    """Overflows soon."""

    def forward(self, x):
        return ops.exp(x * 100.0)


@pytest.mark.parametrize("relu", [False, True])
def test_in_a_trainer_with_a_normalization_of_what_overflowed(relu, device):
    """Both in one op with the ReLU and by itself; the state is as before the step."""
    x = np.array([[0.5, 1.0, 2.0], [0.25, -3.0, 1.0]], np.float32)
    model = nn.Sequential(exp=Exponential(), norm=nn.BatchNorm(3, relu=relu), last=nn.Dense(3, 2))
    assert fit(model, x).startswith("batch_norm: the result holds nan at (")
    assert fit(model, x, infinite=True).startswith("exp: the result holds inf at (")
    np.testing.assert_array_equal(model.norm.running_mean.numpy(), 0)
    np.testing.assert_array_equal(model.norm.running_variance.numpy(), 1)


def test_in_a_trainer_behind_the_loss(device):
    """The loss is finite, its gradient is not: √0 · 0."""
    x = np.zeros((4, 3), np.float32)
    model = nn.Sequential(nn.Dense(3, 2))  # of zeros, with biases of 0: zeros
    message = fit(model, x, loss=lambda outputs, labels: ops.sum(ops.sqrt(ops.abs(outputs)) * 0.0))
    assert message.startswith("sqrt: the gradient with respect to x holds nan at (0, 0); g lies in [0, 0]")


class Spoiled(training.Callback):
    def on_batch(self, trainer, x, y):
        return x + np.float32(np.nan), y


def test_in_a_trainer_with_data_that_hold_it(device):
    model = nn.Sequential(nn.Dense(3, 2))
    trainer = training.Trainer(model, optim.SGD(model), callbacks=[Spoiled()], progress=False)
    with ml.detect_anomaly(), pytest.raises(ml.AnomalyError, match=r"^matmul: x held nan at \(0, 0\) before: it came"):
        trainer.fit(data.Loader(np.zeros((4, 3), np.float32), np.zeros(4, int), 4))

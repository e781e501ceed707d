"""Values and gradients equal PyTorch's, in float64 to 1e-10, at ties and at large values, where differences fail."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

import minidl as ml
from minidl import ops

sizes = st.integers(1, 4)
seeds = st.integers(0, 2**31)
with_oracle = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def first(x):
    """Channels first, as PyTorch wants images."""
    return np.moveaxis(x, -1, 1)


def last(x):
    return np.moveaxis(x, 1, -1)


def compare(ours, theirs, inputs, torch, *, to=lambda x: x, back=lambda x: x, rng):
    """Run both on the same inputs with the same random gradient of the output, and compare everything."""
    tensors = [ml.Tensor(x, requires_grad=True) for x in inputs]
    y = ours(*tensors)
    twins = [torch.tensor(to(x) if i == 0 else x, requires_grad=True) for i, x in enumerate(inputs)]
    z = theirs(*twins)
    expected = z.detach().numpy()
    np.testing.assert_allclose(y.data, back(expected) if expected.ndim > 2 else expected, rtol=1e-10, atol=1e-10)
    g = rng.standard_normal(y.shape)
    y.backward(g)
    z.backward(torch.tensor(to(g) if g.ndim > 2 else g))
    for i, (tensor, twin) in enumerate(zip(tensors, twins, strict=True)):
        gradient = twin.grad.numpy()
        np.testing.assert_allclose(tensor.grad, back(gradient) if i == 0 else gradient, rtol=1e-10, atol=1e-10)


@with_oracle
@given(
    batch=sizes, height=st.integers(3, 9), width=st.integers(3, 9), channels=sizes,
    size=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.none() | st.tuples(st.integers(1, 3), st.integers(1, 3)), ties=st.booleans(), seed=seeds,
)  # fmt: skip
def test_max_pooling_with_overlapping_windows_and_ties(torch, batch, height, width, channels, size, stride, ties, seed):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((batch, height, width, channels))
    if ties:
        x = np.round(x)
    theirs = torch.nn.functional.max_pool2d
    compare(
        lambda a: ops.max_pool2d(a, size, stride),
        lambda a: theirs(a, size, stride),
        [x],
        torch,
        to=first,
        back=last,
        rng=rng,
    )


@with_oracle
@given(
    shape=st.sampled_from([(4, 3), (7, 1), (2, 3, 4, 2), (3, 1, 2, 1)]), eps=st.sampled_from([1e-5, 1e-2]),
    training=st.booleans(), offset=st.sampled_from([0.0, 100.0]), seed=seeds,
)  # fmt: skip
def test_batch_norm(torch, shape, eps, training, offset, seed):
    rng = np.random.default_rng(seed)
    channels = shape[-1]
    inputs = [rng.standard_normal(shape) + offset, rng.standard_normal(channels), rng.standard_normal(channels)]
    running = rng.standard_normal(channels), rng.uniform(0.5, 2, channels)

    def ours(x, gamma, beta):
        return ops.batch_norm(x, gamma, beta, eps=eps, running=None if training else running)

    def theirs(x, gamma, beta):
        mean, variance = (torch.tensor(value.copy()) for value in running)
        return torch.nn.functional.batch_norm(x, mean, variance, gamma, beta, training=training, eps=eps)

    compare(ours, theirs, inputs, torch, to=first, back=last, rng=rng)


@with_oracle
@given(
    count=st.integers(1, 6), classes=st.integers(1, 6), scale=st.sampled_from([1.0, 1e4]),
    smoothing=st.sampled_from([0.0, 0.1, 1.0]), reduction=st.sampled_from(["mean", "sum", "none"]), seed=seeds,
)  # fmt: skip
def test_cross_entropy(torch, count, classes, scale, smoothing, reduction, seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, count)
    compare(
        lambda x: ops.cross_entropy(x, labels, smoothing, reduction=reduction),
        lambda x: torch.nn.functional.cross_entropy(
            x, torch.tensor(labels), label_smoothing=smoothing, reduction=reduction
        ),
        [scale * rng.standard_normal((count, classes))],
        torch,
        rng=rng,
    )


@with_oracle
@pytest.mark.parametrize(
    "name", ["relu", "leaky_relu", "elu", "selu", "sigmoid", "tanh", "softplus", "softmax", "log_softmax"]
)
@given(seed=seeds, scale=st.sampled_from([1.0, 30.0]))
def test_activations(torch, name, seed, scale):
    rng = np.random.default_rng(seed)
    functional = torch.nn.functional
    theirs = {
        "softmax": lambda x: functional.softmax(x, -1),
        "log_softmax": lambda x: functional.log_softmax(x, -1),
        "softplus": lambda x: functional.softplus(x, threshold=1000),
        "sigmoid": torch.sigmoid,
        "tanh": torch.tanh,
    }.get(name) or getattr(functional, name)
    compare(getattr(ops, name), theirs, [scale * rng.standard_normal((3, 5))], torch, rng=rng)

"""A model beside its twin in PyTorch, with the same weights."""

from __future__ import annotations

import functools

import numpy as np
import pytest

import minidl as ml
from minidl import nn, ops
from minidl.threads import single_blas_thread


def first(x):
    """Channels first, as PyTorch wants images."""
    return np.ascontiguousarray(np.moveaxis(x, -1, 1)) if x.ndim == 4 else x


def last(x):
    return np.moveaxis(x, 1, -1) if x.ndim == 4 else x


def assert_equal(ours, expected, tolerance, name):
    """Compare with the largest value of the array as the measure: entries near zero are all rounding."""
    assert ours.shape == expected.shape, name
    np.testing.assert_allclose(ours, expected, rtol=0, atol=tolerance * np.abs(expected).max(), err_msg=name)


class Pair:
    """The two networks; their parameters and batch norms pair up in order. The twin takes over the model's weights."""

    def __init__(self, torch, model, twin):
        self.torch, self.model, self.twin = torch, model, twin
        # ours from PyTorch's: (kh, kw, in, out) from (out, in, kh, kw), or transposed convolutions' (in, out, kh, kw)
        axes = [
            {2: (1, 0), 4: (2, 3, 0, 1) if isinstance(module, torch.nn.ConvTranspose2d) else (2, 3, 1, 0)}
            for module in twin.modules()
            for _ in module.parameters(recurse=False)
        ]
        pairs = zip(model.named_parameters(), twin.parameters(), axes, strict=True)
        self.parameters = [(name, ours, other, by_ndim.get(other.ndim, (0,))) for (name, ours), other, by_ndim in pairs]
        for name, ours, other, axes in self.parameters:
            values = ours.data.transpose(np.argsort(axes))
            assert values.shape == tuple(other.shape), name
            other.data = torch.tensor(values.copy())
        norms = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.BatchNorm)]
        others = [module for module in twin.modules() if isinstance(module, torch.nn.modules.batchnorm._BatchNorm)]
        self.norms = list(zip(norms, others, strict=True))
        for norm in others:
            norm.register_forward_hook(self._count)

    @staticmethod
    def _count(norm, inputs, output):
        """Remember over how many values a batch norm takes its means."""
        if norm.training:
            norm.values_per_channel = output.numel() // output.shape[1]

    def losses(self, x, targets, loss=ops.cross_entropy, twins_loss="cross_entropy"):
        """Run both forward and back; return (outputs, loss, gradient of x) of each, as arrays."""
        torch = self.torch
        ours, theirs = ml.Tensor(x, requires_grad=True), torch.tensor(first(x), requires_grad=True)
        for _, parameter, other, _ in self.parameters:
            parameter.grad = other.grad = None
        y, z = self.model(ours), self.twin(theirs)
        value = loss(y, targets)
        value.backward()
        expected = getattr(torch.nn.functional, twins_loss)(z, torch.tensor(first(targets)))
        expected.backward()
        return (y.data, value.data, ours.grad), (
            *(last(z.detach().numpy()), np.asarray(expected.item())),
            last(theirs.grad.numpy()),
        )

    def check(self, *arguments, tolerance=1e-8):
        """Compare outputs, loss and all gradients, that of the images included; arguments as for `losses`."""
        for name, a, b in zip(("outputs", "loss", "x"), *self.losses(*arguments), strict=True):
            assert_equal(a, b, tolerance, name)
        for name, parameter, other, axes in self.parameters:
            assert_equal(parameter.grad, other.grad.numpy().transpose(axes), tolerance, name)

    def check_all_modes(self, *arguments, rate=0.05, steps=3):
        """Compare in training and, after some steps, in evaluation."""
        for _ in range(steps):
            self.check(*arguments)
            for _, parameter, other, _ in self.parameters:
                parameter.data = parameter.data - rate * parameter.grad
                other.data -= rate * other.grad
        self._compare_running_statistics()
        self.model.eval()
        self.twin.eval()
        self.check(*arguments)

    def _compare_running_statistics(self, tolerance=1e-8):
        """Compare, then give the twin the biased variance.

        PyTorch averages the unbiased variance, larger by m / (m − 1) than the biased one that is averaged here; the
        initial 1, of which (1 − momentum)^steps is left, has no such factor.
        """
        for (name, norm), other in self.norms:
            m, left = other.values_per_channel, (1 - other.momentum) ** int(other.num_batches_tracked)
            variance = left + (other.running_var.numpy() - left) * (m - 1) / m
            assert_equal(norm.running_mean.data, other.running_mean.numpy(), tolerance, name)
            assert_equal(norm.running_variance.data, variance, tolerance, name)
            other.running_var = self.torch.tensor(variance)


@pytest.fixture(autouse=True)
def _one_thread():
    """Let NumPy use one thread: on small networks, threads that wait for each other cost more than they give."""
    with single_blas_thread():
        yield


@pytest.fixture
def pair(torch):
    """Make a `Pair` of a model and its twin, with one thread for PyTorch too."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield functools.partial(Pair, torch)
    torch.set_num_threads(threads)

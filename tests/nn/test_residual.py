"""Losses of the residual: against the matrix form, finite differences, PyTorch, and in their limits."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import minidl as ml
from minidl import models, nn, optim, training

OUTPUTS = ("probabilities", "raw")


def smoothed(h, y, s, alpha, kappa=None):
    """Return the loss of a batch by the equations, with the matrix of the smoothing layer, and the κ that it took."""
    total, found = 0.0, []
    for i, d in enumerate(np.abs(h - y)):
        M, deviation = len(d), d.std()
        normalized = (d - d.mean()) / deviation if np.ptp(d) > 0 else 0 * d
        found.append(s / (1 + np.exp(-alpha * normalized)) if kappa is None else kappa[i])
        w = np.repeat(found[-1][:, None] / (M - 1), M, axis=1)
        np.fill_diagonal(w, 1 - found[-1])
        r = w @ d
        total += r @ r
    return total / len(h), found


def probabilities(x):
    powers = np.exp(x - x.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def one_hot(labels, M, eps=0.0):
    return (1 - eps) * np.eye(M)[labels] + eps / M


def value_and_gradient(loss, x, labels, progress=0.0):
    outputs = ml.Tensor(x, requires_grad=True)
    value = loss(outputs, labels, progress)
    assert value.shape == ()
    value.backward()
    return value.item(), outputs.grad


def differences(function, x, h=1e-6):
    """Return the gradient of a function of an array by central differences."""
    g = np.empty_like(x)
    for i in np.ndindex(x.shape):
        e = np.zeros_like(x)
        e[i] = h
        g[i] = (function(x + e) - function(x - e)) / (2 * h)
    return g


# ---------------------------------------------------------------- classes


@given(
    size=st.tuples(st.integers(1, 4), st.integers(2, 8)),
    s=st.floats(0, 1),
    alpha=st.sampled_from([0.0, 0.25, 1.0, 4.0, 30.0]),
    eps=st.sampled_from([0.0, 0.1, 1.0]),
    outputs=st.sampled_from(OUTPUTS),
    follow=st.booleans(),
    shares=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_the_matrix_form(size, s, alpha, eps, outputs, follow, shares, seed):
    rng = np.random.default_rng(seed)
    x, labels = rng.standard_normal(size), rng.integers(0, size[1], size[0])
    y = rng.dirichlet(np.ones(size[1]), size[0]) if shares else one_hot(labels, size[1])
    expected, _ = smoothed(
        probabilities(x) if outputs == "probabilities" else x, (1 - eps) * y + eps / size[1], s, alpha
    )
    loss = nn.ResidualSmoothing(s, alpha, outputs=outputs, label_smoothing=eps, differentiate_diffusivity=follow)
    got = loss(ml.Tensor(x), y if shares else labels).item()
    np.testing.assert_allclose(got, expected, rtol=1e-12)
    single = loss(ml.Tensor(x.astype(np.float32)), y if shares else labels)
    assert single.dtype == np.float32
    np.testing.assert_allclose(single.item(), expected, rtol=1e-4)


@pytest.mark.parametrize("outputs", OUTPUTS)
@pytest.mark.parametrize("alpha", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("follow", [False, True])
def test_gradients_in_both_readings_of_the_diffusivity(rng, outputs, alpha, follow):
    """Central differences of the matrix form: with the κ of the starting point, and with a κ that moves."""
    x, labels = rng.standard_normal((3, 5)), np.array([0, 3, 3])
    h = probabilities if outputs == "probabilities" else lambda x: x
    y = one_hot(labels, 5, 0.1)
    loss = nn.ResidualSmoothing(
        nn.LogisticAnnealing(0.4), alpha, outputs=outputs, label_smoothing=0.1, differentiate_diffusivity=follow
    )
    s = 1 / np.cosh((0.5 - 0.75) / 0.8) ** 2
    value, gradient = value_and_gradient(loss, x, labels, 0.5)
    expected, kappa = smoothed(h(x), y, s, alpha)
    frozen = differences(lambda x: smoothed(h(x), y, s, alpha, kappa)[0], x)
    moving = differences(lambda x: smoothed(h(x), y, s, alpha)[0], x)
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    np.testing.assert_allclose(gradient, moving if follow else frozen, rtol=1e-6, atol=1e-9)
    if alpha:
        assert np.abs(moving - frozen).max() > 1e-3, "the two readings are two"
    _, single = value_and_gradient(loss, x.astype(np.float32), labels, 0.5)
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("outputs", OUTPUTS)
@pytest.mark.parametrize("eps", [0.0, 0.1])
def test_the_squared_residual_equals_pytorch(torch, rng, outputs, eps):
    x, labels = rng.standard_normal((6, 4)), rng.integers(0, 4, 6)
    value, gradient = value_and_gradient(nn.SquaredResidual(outputs, eps), x, labels)
    theirs = torch.tensor(x, requires_grad=True)
    h = torch.softmax(theirs, 1) if outputs == "probabilities" else theirs
    y = (1 - eps) * torch.nn.functional.one_hot(torch.tensor(labels), 4).double() + eps / 4
    total = torch.nn.functional.mse_loss(h, y) * 4
    total.backward()
    np.testing.assert_allclose(value, total.item(), rtol=1e-13)
    np.testing.assert_allclose(gradient, theirs.grad.numpy(), rtol=1e-11, atol=1e-15)


@pytest.mark.parametrize("outputs", OUTPUTS)
@pytest.mark.parametrize("alpha", [0, 1])
@pytest.mark.parametrize(
    ("annealing", "progress"), [(0.0, 0.3), (lambda t: 0.0, 0.3), (nn.LogisticAnnealing(1e-3), 1.0), (0, 0)]
)
def test_without_diffusion_it_is_the_squared_residual(rng, outputs, alpha, annealing, progress):
    x, labels = rng.standard_normal((5, 6)).astype(np.float32), rng.integers(0, 6, 5)
    plain = value_and_gradient(nn.SquaredResidual(outputs), x, labels)
    value, gradient = value_and_gradient(nn.ResidualSmoothing(annealing, alpha, outputs=outputs), x, labels, progress)
    assert value == plain[0]
    np.testing.assert_array_equal(gradient, plain[1])


def test_the_modes(rng):
    x, labels = rng.standard_normal((5, 6)), rng.integers(0, 6, 5)
    y, curve = one_hot(labels, 6), nn.LaplaceAnnealing(0.5, 0.6)
    h, s = probabilities(x), np.exp(-0.4 / 0.5)
    of = lambda loss: loss(ml.Tensor(x), labels, 0.2).item()
    for loss, expected in (
        (nn.ResidualSmoothing(curve, 2), smoothed(h, y, s, 2)),
        (nn.ResidualSmoothing(curve), smoothed(h, y, s, 1)),
        (nn.ResidualSmoothing(curve, 2, "global"), smoothed(h, y, s, 0)),
        (nn.ResidualSmoothing(0.3, 2, "local"), smoothed(h, y, 0.3, 2)),
        (nn.ResidualSmoothing(0.3, 2, mode="global"), smoothed(h, y, 0.3, 0)),
    ):
        np.testing.assert_allclose(of(loss), expected[0], rtol=1e-12)
    np.testing.assert_allclose(
        nn.ResidualSmoothing(curve)(ml.Tensor(x), labels).item(), smoothed(h, y, np.exp(-0.6 / 0.5), 1)[0], rtol=1e-12
    )


def test_equal_residuals_and_exact_fits_are_finite():
    x = np.zeros((2, 4))
    for follow in (False, True):
        loss = nn.ResidualSmoothing(1, 3, outputs="raw", differentiate_diffusivity=follow)
        with np.errstate(all="raise"):
            value, gradient = value_and_gradient(loss, x, np.full((2, 4), 0.25))
            assert value == pytest.approx(0.25, rel=1e-15)
            np.testing.assert_allclose(gradient, -0.25, rtol=1e-14)
            value, gradient = value_and_gradient(loss, np.eye(4), np.arange(4))
            assert value == 0
            np.testing.assert_array_equal(gradient, 0)


def test_class_labels_of_all_kinds(rng):
    x = rng.standard_normal((3, 4)).astype(np.float32)
    expected = nn.SquaredResidual()(x, np.array([0, 1, 3])).item()
    for labels in ([0, 1, 3], np.array([0, 1, 3], np.uint8), ml.Tensor(np.array([0, 1, 3])), np.eye(4)[[0, 1, 3]]):
        got = nn.SquaredResidual()(ml.Tensor(x), labels)
        assert got.dtype == np.float32
        assert got.item() == expected


LOSSES = {
    "cross entropy": (nn.CrossEntropy(), True),
    "label smoothing": (nn.LabelSmoothing(0.2), True),
    "mse": (nn.MSE(), False),
    "squared residual": (nn.SquaredResidual(label_smoothing=0.1), True),
    "residual smoothing": (nn.ResidualSmoothing(nn.LogisticAnnealing(0.3)), True),
    "diffusion": (nn.DiffusionSmoothing2d(nn.LogisticAnnealing(0.3)), None),
}


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_is_the_mean_of_those_of_its_samples(rng, name):
    loss, of_classes = LOSSES[name]
    size = (4, 3, 3, 2) if of_classes is None else (4, 5)
    x, labels = rng.standard_normal(size), rng.integers(0, 5, 4) if of_classes else rng.standard_normal(size)
    each = loss.each(ml.Tensor(x), labels, 0.6)
    assert each.shape == (4,)
    np.testing.assert_allclose(each.data.mean(), loss(ml.Tensor(x), labels, 0.6).item(), rtol=1e-14)
    alone = [loss(ml.Tensor(x[i : i + 1]), labels[i : i + 1], 0.6).item() for i in range(4)]
    np.testing.assert_allclose(each.data, alone, rtol=1e-13)
    heads = nn.WithAuxiliary(loss, 0.5)
    both = heads.each((ml.Tensor(x), ml.Tensor(2 * x)), labels, 0.6).data
    np.testing.assert_allclose(both, each.data + 0.5 * loss.each(ml.Tensor(2 * x), labels, 0.6).data, rtol=1e-13)
    np.testing.assert_allclose(heads((ml.Tensor(x), ml.Tensor(2 * x)), labels, 0.6).item(), both.mean(), rtol=1e-13)
    with pytest.raises(TypeError, match=f"{type(loss).__name__}: outputs is a tuple"):
        loss.each((ml.Tensor(x), ml.Tensor(x)), labels)


def test_the_mean_squared_errors_of_single_numbers(rng):
    x, y = rng.standard_normal((2, 4))
    np.testing.assert_allclose(nn.MSE().each(ml.Tensor(x), y).data, (x - y) ** 2, rtol=1e-15)


def test_a_loss_of_ones_own_may_say_what_it_is_for_a_batch_or_for_each_sample():
    class Batch(nn.Loss):
        def __call__(self, outputs, labels, progress=0.0):
            return outputs.sum()

    class Each(nn.Loss):
        def each(self, outputs, labels, progress=0.0):
            return outputs[:, 0] * progress

    x = ml.Tensor(np.array([[1.0, 2], [3, 4]]))
    assert Batch()(x, None).item() == 10
    assert Each()(x, None, 0.5).item() == 1
    for loss in (Batch(), nn.Loss()):
        with pytest.raises(TypeError, match=f"{type(loss).__name__} has no each method"):
            loss.each(x, None)


# ---------------------------------------------------------------- images


def diffused(h, y, s, alpha, steps, kappa=None):
    """Return the loss of a batch by the heat equation on padded images, and the κ that it took."""
    total, found = 0.0, []
    for i, d in enumerate(np.abs(h - y)):
        normalized = (d - d.mean()) / d.std() if np.ptp(d) > 0 else 0 * d
        found.append(0.25 * s / (1 + np.exp(-alpha * normalized)) if kappa is None else kappa[i])
        u = d
        for _ in range(steps):
            p = np.pad(u, ((1, 1), (1, 1), (0, 0)), mode="edge")
            u = u + found[-1] * (p[2:, 1:-1] + p[:-2, 1:-1] + p[1:-1, 2:] + p[1:-1, :-2] - 4 * u)
        total += (u**2).sum()
    return total / len(h), found


@given(
    size=st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 5), st.integers(1, 3)),
    s=st.floats(0, 1),
    alpha=st.sampled_from([0.0, 0.25, 1.0, 4.0, 30.0]),
    steps=st.integers(1, 3),
    follow=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_diffusion_of_images(size, s, alpha, steps, follow, seed):
    rng = np.random.default_rng(seed)
    h, y = rng.standard_normal(size), rng.standard_normal(size)
    loss = nn.DiffusionSmoothing2d(lambda t: s * t, alpha, steps=steps, differentiate_diffusivity=follow)
    value = loss(ml.Tensor(h), y, 0.5).item()
    np.testing.assert_allclose(value, diffused(h, y, s / 2, alpha, steps)[0], rtol=1e-12)
    single = loss(ml.Tensor(h.astype(np.float32)), y, 0.5)
    assert single.dtype == np.float32, "targets in float64 promote nothing"
    np.testing.assert_allclose(single.item(), value, rtol=1e-4)


@pytest.mark.parametrize(("alpha", "mode"), [(1.0, "both"), (3.0, "local"), (3.0, "global")])
@pytest.mark.parametrize("follow", [False, True])
def test_gradients_of_diffusion_in_both_readings(rng, alpha, mode, follow):
    h, y = rng.uniform(0.1, 1, (2, 3, 4, 2)) + 1, rng.uniform(0, 1, (2, 3, 4, 2))
    loss = nn.DiffusionSmoothing2d(0.8, alpha, mode, steps=2, differentiate_diffusivity=follow)
    alpha = 0 if mode == "global" else alpha
    value, gradient = value_and_gradient(loss, h, y)
    expected, kappa = diffused(h, y, 0.8, alpha, 2)
    frozen = differences(lambda h: diffused(h, y, 0.8, alpha, 2, kappa)[0], h)
    moving = differences(lambda h: diffused(h, y, 0.8, alpha, 2)[0], h)
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    np.testing.assert_allclose(gradient, moving if follow else frozen, rtol=1e-6, atol=1e-8)
    if alpha:
        assert np.abs(moving - frozen).max() > 1e-3
    _, single = value_and_gradient(loss, h.astype(np.float32), y)
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, gradient, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("follow", [False, True])
def test_diffusion_in_its_limits(rng, follow):
    h, y = rng.standard_normal((2, 3, 4, 5, 2))
    plain = ((h - y) ** 2).sum() / 3
    value, gradient = value_and_gradient(nn.DiffusionSmoothing2d(0, differentiate_diffusivity=follow), h, y)
    assert value == pytest.approx(plain, rel=1e-14)
    assert value == pytest.approx(40 * nn.MSE()(ml.Tensor(h), y).item(), rel=1e-14)
    np.testing.assert_allclose(gradient, 2 * (h - y) / 3, rtol=1e-14)
    annealed = nn.DiffusionSmoothing2d(nn.LaplaceAnnealing(1e-3), differentiate_diffusivity=follow)
    assert annealed(ml.Tensor(h), y, 1.0).item() == pytest.approx(plain, rel=1e-14)
    for constant in (0.0, 0.1, 0.7):  # an even image stays as it is, though 0.1 and 0.7 have no exact mean
        loss = nn.DiffusionSmoothing2d(1, 1e6, differentiate_diffusivity=follow)
        with np.errstate(all="raise", under="ignore"):
            value, gradient = value_and_gradient(loss, np.full((2, 3, 3, 1), constant), np.zeros((2, 3, 3, 1)))
        assert value == pytest.approx(9 * constant**2, rel=1e-14)
        assert np.isfinite(gradient).all()
        np.testing.assert_allclose(gradient.sum(), 9 * 2 * constant, rtol=1e-12)


# ---------------------------------------------------------------- in a training


def test_smoothing_reaches_a_training_by_its_progress_and_leaves_it_at_the_end(rng):
    x, labels = rng.standard_normal((24, 6)).astype(np.float32), rng.integers(0, 3, 24)
    told = []

    def annealing(t):
        told.append(t)
        return 0.0 if t == 1 else 0.5

    model = models.mlp([6, 8, 3])
    trainer = training.Trainer(model, optim.SGD(model, lr=0.1), nn.ResidualSmoothing(annealing), progress=False)
    history = trainer.fit(ml.data.Loader(x, labels, 8), validation=(x, labels), epochs=2)
    assert told == [0, 1 / 6, 2 / 6, *[3 / 6] * 3, 3 / 6, 4 / 6, 5 / 6, *[1] * 3]
    with nn.evaluating(model):
        plain = nn.SquaredResidual()(model(x), labels).item()
    assert history.epochs[-1]["validation_loss"] == pytest.approx(plain, rel=1e-6)


def test_an_autoencoder_learns_by_smoothed_images(rng):
    x = rng.uniform(0, 1, (16, 8, 8, 1)).astype(np.float32)
    model = models.autoencoder(code=4, size=8, widths=(4,))
    loss = nn.DiffusionSmoothing2d(nn.LogisticAnnealing(0.3), steps=2)
    trainer = training.Trainer(model, optim.Adam(model, lr=0.01), loss, progress=False)
    losses = [epoch["loss"] for epoch in trainer.fit(ml.data.Loader(x, x, 8), epochs=15).epochs]
    assert losses[-1] < 0.9 * losses[0]


# ---------------------------------------------------------------- bad input

IMAGE = np.zeros((2, 3, 3, 1))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: nn.SquaredResidual("logits"), ValueError, "SquaredResidual: outputs is 'logits', expected 'prob"),
        (lambda: nn.SquaredResidual(label_smoothing=2), ValueError, "SquaredResidual: label_smoothing is 2"),
        (lambda: nn.ResidualSmoothing(1.5), ValueError, r"ResidualSmoothing: annealing is 1.5, expected a .* \[0, 1\]"),
        (lambda: nn.ResidualSmoothing("logistic"), TypeError, "ResidualSmoothing: annealing is 'logistic'"),
        (lambda: nn.ResidualSmoothing(0.5, -1), ValueError, "ResidualSmoothing: steepness is -1"),
        (lambda: nn.ResidualSmoothing(0.5, mode="all"), ValueError, "ResidualSmoothing: mode is 'all', expected one"),
        (lambda: nn.ResidualSmoothing(0.5, outputs="x"), ValueError, "ResidualSmoothing: outputs is 'x'"),
        (lambda: nn.ResidualSmoothing(0.5, label_smoothing=-1), ValueError, "ResidualSmoothing: label_smoothing is -1"),
        (lambda: nn.ResidualSmoothing(0.5, differentiate_diffusivity=1), TypeError, "differentiate_diffusivity is 1"),
        (
            lambda: nn.ResidualSmoothing(nn.LaplaceAnnealing(0.3), mode="local"),
            ValueError,
            r"annealing is LaplaceAnnealing\(b=0.3, mu=0.75\), expected a number in mode 'local'",
        ),
        (lambda: nn.ResidualSmoothing(0.5)(np.zeros((2, 1)), [0, 0]), ValueError, r"outputs have shape \(2, 1\): a re"),
        (lambda: nn.ResidualSmoothing(0.5)(np.zeros(2), [0, 0]), ValueError, r"ResidualSmoothing: outputs have shape"),
        (lambda: nn.SquaredResidual()(np.zeros((2, 3)), [0, 3]), ValueError, "SquaredResidual: labels contain 3"),
        (lambda: nn.SquaredResidual()(np.zeros((2, 3)), [0]), ValueError, r"SquaredResidual: labels have shape \(1,\)"),
        (lambda: nn.SquaredResidual()(np.zeros((0, 3)), np.zeros(0, int)), ValueError, "the batch is empty"),
        (lambda: nn.SquaredResidual()(np.zeros((2, 3)), [0.0, 1]), TypeError, "labels have dtype float64"),
        (lambda: nn.ResidualSmoothing(lambda t: 2.0)(np.zeros((2, 3)), [0, 1]), ValueError, "the annealed s is 2.0"),
        (lambda: nn.DiffusionSmoothing2d(2), ValueError, "DiffusionSmoothing2d: annealing is 2"),
        (lambda: nn.DiffusionSmoothing2d(0.5, steps=0), ValueError, "DiffusionSmoothing2d: steps is 0"),
        (lambda: nn.DiffusionSmoothing2d(0.5, mode="x"), ValueError, "DiffusionSmoothing2d: mode is 'x'"),
        (
            lambda: nn.DiffusionSmoothing2d(0.5)(IMAGE, IMAGE[..., 0]),
            ValueError,
            r"outputs have shape \(2, 3, 3, 1\) and targets \(2, 3, 3\)",
        ),
        (lambda: nn.DiffusionSmoothing2d(0.5)(IMAGE[0], IMAGE[0]), ValueError, "expected images"),
        (lambda: nn.DiffusionSmoothing2d(0.5)(IMAGE[:0], IMAGE[:0]), ValueError, "expected images"),
    ],
)
def test_what_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()

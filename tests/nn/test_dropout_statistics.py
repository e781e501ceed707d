"""Means, variances and correlations of the dropout family against closed forms.

The seeds are fixed. Unless a test says otherwise it allows 5 standard errors, which a correct layer leaves once in 1.7
million draws of a seed.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

import minidl as ml
from minidl import nn
from minidl.threads import single_blas_thread

# ---------------------------------------------------------------- means and variances


def assert_moments(y, mean, variance):
    """The sample's mean and variance lie within 5 standard errors: √(σ²/n) and √((μ₄ − σ⁴)/n), μ₄ from the sample."""
    y = np.asarray(y, np.float64).reshape(-1)
    fourth = ((y - y.mean()) ** 4).mean()
    assert abs(y.mean() - mean) < 5 * np.sqrt(variance / y.size)
    assert abs(y.var() - variance) < 5 * np.sqrt((fourth - variance**2) / y.size)


N = 400_000
V = 1.7  # the value of every element that the moments below are for


@pytest.mark.parametrize("p", [0.1, 0.5, 0.8])
@pytest.mark.parametrize(
    ("layer", "mean", "variance"),
    [
        (nn.Dropout, lambda p: V, lambda p: V**2 * p / (1 - p)),
        (partial(nn.Dropout, scaling="eval"), lambda p: V * (1 - p), lambda p: V**2 * p * (1 - p)),
        (nn.GaussianDropout, lambda p: V, lambda p: V**2 * p * (1 - p)),
        (partial(nn.GaussianDropout, variance="srivastava"), lambda p: V, lambda p: V**2 * p / (1 - p)),
    ],
    ids=["inverted", "eval", "notes", "srivastava"],
)
def test_mean_and_variance_of_a_disturbed_constant(layer, mean, variance, p):
    y = layer(p, generator=np.random.default_rng(0))(np.full((N // 10, 10), V, np.float32))
    assert_moments(y.data, mean(p), variance(p))


@pytest.mark.parametrize("scaling", ["inverted", "eval"])
def test_mean_and_variance_of_spatial_dropout_over_maps(scaling):
    """One draw a map: of 2 × 2 equal pixels only one counts."""
    p, scale = 0.3, 1 / 0.7 if scaling == "inverted" else 1
    x = np.full((N // 10, 2, 2, 10), V, np.float32)
    y = nn.SpatialDropout2d(p, scaling, np.random.default_rng(0))(x).data[:, 1, 1]
    assert_moments(y, V * (1 - p) * scale, V**2 * p * (1 - p) * scale**2)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.8])
def test_pooling_dropout_has_the_moments_of_its_window(p):
    r"""The average of 4 Bernoulli variables, and the largest: :math:`x_{(k)}` with probability (1 − p) pᵏ⁻¹, or 0."""
    values = np.array([4.0, 3.0, 1.5, 0.5])
    x = np.tile(values.reshape(1, 2, 2, 1), (N // 4, 1, 1, 1)).astype(np.float32)
    y = nn.PoolingDropout(2, p, "avg", generator=np.random.default_rng(0))(x)
    assert_moments(y.data, (1 - p) * values.mean(), p * (1 - p) * (values**2).sum() / 16)
    y = nn.PoolingDropout(2, p, "max", generator=np.random.default_rng(0))(x)
    chance = (1 - p) * p ** np.arange(4)
    mean = chance @ values
    assert_moments(y.data, mean, chance @ values**2 - mean**2)


def test_max_drop_has_the_moments_of_the_larger_of_two_normal_variables():
    """Of two independent N(0, 1) the larger has mean 1/√π and variance 1 − 1/π."""
    mu, sigma = 0.8, 0.3
    y = nn.MaxDrop((1, 2), mu, sigma, generator=np.random.default_rng(0))(np.full((N // 10, 1, 2, 10), V, np.float32))
    assert_moments(y.data, V * (mu + sigma / np.sqrt(np.pi)), (V * sigma) ** 2 * (1 - 1 / np.pi))


def test_the_default_noise_of_max_drop_is_that_of_gaussian_dropout():
    assert nn.MaxDrop(2).sigma == nn.GaussianDropout(0.5).sigma == 0.5


@pytest.mark.parametrize(
    "layer",
    [
        partial(nn.Dropout, 0.4),
        partial(nn.Dropout, 0.4, "eval"),
        partial(nn.SpatialDropout2d, 0.4),
        partial(nn.SpatialDropout2d, 0.4, "eval"),
        partial(nn.GaussianDropout, 0.4),
        partial(nn.GaussianDropout, 0.4, "srivastava"),
        partial(nn.PoolingDropout, 2, 0.4, "avg", 1),
    ],
    ids=lambda layer: f"{layer.func.__name__}{layer.args}",
)
def test_the_mean_in_training_is_the_output_in_evaluation(layer, rng):
    """Each element, averaged over 20,000 masks, lies within 5 standard errors, estimated from the same sample."""
    x = rng.standard_normal((1, 3, 3, 2))
    module = layer(generator=np.random.default_rng(0))
    y = module(np.repeat(x, 20_000, axis=0)).data
    expected = module.eval()(ml.Tensor(x)).data[0]
    assert (np.abs(y.mean(0) - expected) < 5 * y.std(0) / np.sqrt(len(y))).all()


# ---------------------------------------------------------------- AlphaDropout


@pytest.mark.parametrize("p", [0.05, 0.5, 0.9])
def test_alpha_dropout_keeps_mean_0_and_variance_1(torch, p, rng):
    x = rng.standard_normal((N // 10, 10))
    torch.manual_seed(0)
    for y in (nn.AlphaDropout(p, np.random.default_rng(0))(x).data, torch.nn.AlphaDropout(p)(torch.tensor(x)).numpy()):
        assert_moments(y, 0, 1)


@pytest.mark.parametrize("p", [0.05, 0.5, 0.9])
def test_the_affine_map_of_alpha_dropout_equals_pytorchs(torch, p):
    """Of x = 0 and x = 1 three values are left: b, a + b and aα′ + b."""
    x = np.tile([0.0, 1.0], (100, 1))
    theirs = torch.nn.AlphaDropout(p)(torch.tensor(x)).numpy()
    ours = nn.AlphaDropout(p, np.random.default_rng(0))(x).data
    np.testing.assert_allclose(np.unique(ours.round(13)), np.unique(theirs.round(13)), rtol=1e-11)
    assert len(np.unique(ours.round(13))) == 3


def moments_after_layers(dropout, seed):
    """Return the mean and the variance behind each of 6 × (dense, SELU, dropout), weights N(0, 1 / inputs)."""
    rng = np.random.default_rng(seed)
    init = lambda shape, generator: (generator.standard_normal(shape) / np.sqrt(shape[0])).astype(np.float32)
    x = rng.standard_normal((200, 200)).astype(np.float32)
    moments = []
    for _ in range(6):
        block = nn.Sequential(nn.Dense(200, 200, init=init, generator=rng), nn.SELU(), dropout(0.2, generator=rng))
        x = block(x).data
        moments.append((x.mean(), x.var()))
    return moments


def test_selu_networks_keep_mean_0_and_variance_1_with_alpha_dropout_and_not_with_dropout():
    """Mean and variance behind each layer, averaged over 16 networks of width 200 with their own weights and masks.

    The networks are independent, so their spread s gives the standard error s / √16. Student's t with 15 degrees of
    freedom leaves 5 of them once in 6,000 draws of the seeds. Ordinary dropout is far outside behind every layer.
    """
    deviations = {}
    for layer in (nn.AlphaDropout, nn.Dropout):
        with single_blas_thread():  # the matrices are small
            sample = np.array([moments_after_layers(layer, seed) for seed in range(16)]) - [0, 1]
        deviations[layer] = np.abs(sample.mean(0)) / (sample.std(0, ddof=1) / 4)
    assert (deviations[nn.AlphaDropout] < 5).all()
    assert (deviations[nn.Dropout][:, 1] > 20).all()


# ---------------------------------------------------------------- the approximations of the largest value


def test_evaluation_of_the_largest_value_is_a_lower_bound_of_its_mean_in_training(rng):
    """For values ≥ 0; equal only if a window holds a single element that is not 0."""
    x = rng.uniform(0.5, 1, (1, 4, 4, 3))
    many = np.repeat(x, 5000, axis=0)
    for layer in (nn.PoolingDropout(2, 0.4), nn.MaxDrop(2, 1, 0.5)):
        trained, evaluated = layer(many).data.mean(0), layer.eval()(x).data[0]
        assert (trained > evaluated * 1.1).all()
    alone = np.zeros_like(many)
    alone[:, ::2, ::2] = many[:, ::2, ::2]
    layer = nn.PoolingDropout(2, 0.4)
    y = layer(alone).data
    assert (np.abs(y.mean(0) - layer.eval()(alone[:1]).data[0]) < 5 * y.std(0) / np.sqrt(5000)).all()


# ---------------------------------------------------------------- independence


def test_spatial_dropout_drops_whole_maps_as_pytorchs_does(torch):
    """Planes are constant, kept ones hold 1 / (1 − p), and the share of dropped ones is p within 5 standard errors."""
    p, shape = 0.3, (200, 4, 3, 50)
    ours = nn.SpatialDropout2d(p, generator=np.random.default_rng(0))(np.ones(shape)).data
    torch.manual_seed(0)
    theirs = torch.nn.Dropout2d(p)(torch.ones(200, 50, 4, 3, dtype=torch.float64)).numpy().transpose(0, 2, 3, 1)
    error = 5 * np.sqrt(p * (1 - p) / (200 * 50))
    for y in (ours, theirs):
        np.testing.assert_array_equal(y, np.broadcast_to(y[:, :1, :1], shape))
        np.testing.assert_allclose(np.unique(y), [0, 1 / (1 - p)], rtol=1e-15)
        assert abs((y[:, 0, 0] == 0).mean() - p) < error


def test_overlapping_windows_have_independent_masks():
    """The middle pixel of 3 × 3 lies in four windows. Its four masks are uncorrelated and take all 16 combinations.

    The correlation of n independent pairs has standard error 1 / √n.
    """
    n, p = 40_000, 0.4
    x = np.zeros((n, 3, 3, 1), np.float32)
    x[:, 1, 1] = 1
    for kind, kept in (("max", 1), ("avg", 0.25)):
        y = nn.PoolingDropout(2, p, kind, 1, np.random.default_rng(0))(x).data.reshape(n, 4) / kept
        assert set(np.unique(y)) == {0, 1}
        counts = np.bincount((y @ [1, 2, 4, 8]).astype(int), minlength=16)
        share = np.array([(1 - p) ** k.bit_count() * p ** (4 - k.bit_count()) for k in range(16)])
        assert (np.abs(counts - n * share) < 5 * np.sqrt(n * share * (1 - share))).all()
        assert np.abs(np.corrcoef(y.T) - np.eye(4)).max() < 5 / np.sqrt(n)
    y = nn.MaxDrop(2, 1, 0.5, 1, np.random.default_rng(0))(10 + 90 * x).data.reshape(n, 4)
    assert np.abs(np.corrcoef(y.T) - np.eye(4)).max() < 5 / np.sqrt(n)

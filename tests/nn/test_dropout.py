"""The dropout family against references written from the equations: values, masks, derivatives, errors."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

import minidl as ml
from minidl import nn, ops

IMAGE = (3, 5, 6, 2)
SATURATION = -1.7580993408473766  # −λα of SELU

# For each name, how to make the layer with a generator, and the shape that it is tried on.
LAYERS = {
    "Dropout": (partial(nn.Dropout, 0.3), (7, 11)),
    "Dropout, eval": (partial(nn.Dropout, 0.3, "eval"), IMAGE),
    "SpatialDropout2d": (partial(nn.SpatialDropout2d, 0.3), IMAGE),
    "SpatialDropout2d, eval": (partial(nn.SpatialDropout2d, 0.3, scaling="eval"), IMAGE),
    "GaussianDropout": (partial(nn.GaussianDropout, 0.3), (7, 11)),
    "GaussianDropout, srivastava": (partial(nn.GaussianDropout, 0.3, "srivastava"), IMAGE),
    "AlphaDropout": (partial(nn.AlphaDropout, 0.3), (7, 2, 11)),
    "PoolingDropout, max": (partial(nn.PoolingDropout, (2, 3), 0.3), IMAGE),
    "PoolingDropout, avg": (partial(nn.PoolingDropout, 2, 0.3, "avg", (2, 1)), IMAGE),
    "MaxDrop": (partial(nn.MaxDrop, (2, 3), 0.9, 0.4, stride=(2, 1)), IMAGE),
}
every_layer = pytest.mark.parametrize("name", LAYERS)


def make(name, seed=3):
    return LAYERS[name][0](generator=np.random.default_rng(seed))


def windows(x, size, stride):
    """The windows of an image, (N, oh, ow, kh·kw, C), from NumPy's own view of them."""
    view = np.lib.stride_tricks.sliding_window_view(x, size, axis=(1, 2))[:, :: stride[0], :: stride[1]]
    return np.moveaxis(view, 3, 5).reshape(*view.shape[:3], size[0] * size[1], x.shape[3])


# ---------------------------------------------------------------- the equations

# What each layer returns for x, by the equation; `kept` and `normal` draw masks of a shape.
TRAINING = {
    "Dropout": lambda x, kept, normal: x * kept(x.shape) / 0.7,
    "Dropout, eval": lambda x, kept, normal: x * kept(x.shape),
    "SpatialDropout2d": lambda x, kept, normal: x * kept((3, 1, 1, 2)) / 0.7,
    "SpatialDropout2d, eval": lambda x, kept, normal: x * kept((3, 1, 1, 2)),
    "GaussianDropout": lambda x, kept, normal: x * (1 + np.sqrt(0.3 * 0.7) * normal(x.shape)),
    "GaussianDropout, srivastava": lambda x, kept, normal: x * (1 + np.sqrt(0.3 / 0.7) * normal(x.shape)),
    "AlphaDropout": lambda x, kept, normal: standardized(np.where(kept(x.shape), x, SATURATION), 0.3),
    "PoolingDropout, max": lambda x, kept, normal: (windows(x, (2, 3), (2, 3)) * kept((3, 2, 2, 6, 2))).max(3),
    "PoolingDropout, avg": lambda x, kept, normal: (windows(x, (2, 2), (2, 1)) * kept((3, 2, 5, 4, 2))).sum(3) / 4,
    "MaxDrop": lambda x, kept, normal: (windows(x, (2, 3), (2, 1)) * (0.9 + 0.4 * normal((3, 2, 4, 6, 2)))).max(3),
}
EVALUATION = {
    "Dropout, eval": lambda x: 0.7 * x,
    "SpatialDropout2d, eval": lambda x: 0.7 * x,
    "PoolingDropout, max": lambda x: 0.7 * windows(x, (2, 3), (2, 3)).max(3),
    "PoolingDropout, avg": lambda x: 0.7 * windows(x, (2, 2), (2, 1)).mean(3),
    "MaxDrop": lambda x: 0.9 * windows(x, (2, 3), (2, 1)).max(3),
}


def coins(generator, shape, p):
    """One random byte b for each element, kept where b > 256 p - 1; where 256 p lies within b, by a second number."""
    count = int(np.prod(shape))
    words = generator.integers(2**64, size=-(-count // 8), dtype=np.uint64)
    b = np.array([word >> 8 * i & 255 for word in words.tolist() for i in range(8)])[:count].astype(float)
    within = (b < 256 * p) & (256 * p < b + 1)
    b[within] += generator.random(within.sum())
    return (b >= 256 * p).reshape(shape)


def standardized(z, p):
    """Shift and scale by the mean and the deviation that z has if what was kept has mean 0 and variance 1."""
    mean, second = p * SATURATION, (1 - p) + p * SATURATION**2
    return (z - mean) / np.sqrt(second - mean**2)


@every_layer
@pytest.mark.parametrize(("dtype", "rtol"), [(np.float64, 1e-6), (np.float32, 1e-5)])
def test_training_is_the_equation_with_the_generators_next_numbers(name, dtype, rtol, rng):
    """The masks are drawn in float32; the noise of float64 layers is therefore that of a reference to 1e-6."""
    x = rng.standard_normal(LAYERS[name][1]).astype(dtype)
    twin = np.random.default_rng(3)
    kept = lambda shape: coins(twin, shape, 0.3)
    normal = lambda shape: twin.standard_normal(shape, dtype=np.float32).astype(np.float64)
    layer = make(name)
    for _ in range(2):
        y = layer(x)
        expected = TRAINING[name](x, kept, normal)
        np.testing.assert_allclose(y.data, expected, rtol=rtol, atol=rtol)
        assert y.dtype == dtype
        assert y.shape == expected.shape


@every_layer
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_evaluation_is_the_equation_and_draws_nothing(name, dtype, rng):
    x = ml.Tensor(rng.standard_normal(LAYERS[name][1]).astype(dtype))
    layer = make(name).eval()
    y = layer(x)
    expected = EVALUATION.get(name, lambda x: x)(x.data)
    np.testing.assert_allclose(y.data, expected, rtol=1e-6 if dtype == np.float32 else 1e-14)
    assert y.dtype == dtype
    assert layer.generator.random() == np.random.default_rng(3).random()


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (2, 3)])
@pytest.mark.parametrize("stride", [(1, 1), (2, 2), (3, 1)])
def test_windows_are_those_that_numpy_sees(size, stride, rng):
    x = rng.standard_normal(IMAGE)
    np.testing.assert_array_equal(ops.windows2d(x, size, stride).data, windows(x, size, stride))
    np.testing.assert_array_equal(ops.windows2d(x, size).data, windows(x, size, size))
    np.testing.assert_array_equal(ops.max_pool2d(x, size, stride).data, ops.windows2d(x, size, stride).data.max(3))


# ---------------------------------------------------------------- masks


@every_layer
def test_masks_depend_on_the_seed_and_the_shape_alone(name, rng):
    x = rng.uniform(1, 2, LAYERS[name][1])
    y = make(name)(x).data
    np.testing.assert_array_equal(make(name)(np.asfortranarray(x)).data, y)
    np.testing.assert_allclose(make(name)(x.astype(np.float32)).data, y, rtol=1e-5, atol=1e-6)
    assert not np.array_equal(make(name, seed=4)(x).data, y)
    layer = LAYERS[name][0]()  # draws from the thread's generator
    ml.manual_seed(3)
    first, second = layer(x).data, layer(x).data
    np.testing.assert_array_equal(first, y)
    assert not np.array_equal(first, second)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Dropout(0), (4, 3)),
        (nn.SpatialDropout2d(0, "eval"), (2, 4, 4, 3)),
        (nn.GaussianDropout(0), (4, 3)),
        (nn.GaussianDropout(1), (4, 3)),
        (nn.GaussianDropout(0, "srivastava"), (4, 3)),
        (nn.AlphaDropout(0), (4, 3)),
    ],
    ids=repr,
)
def test_without_noise_training_is_the_identity(layer, shape, rng):
    x = ml.Tensor(rng.standard_normal(shape))
    np.testing.assert_array_equal(layer(x).data, x.data)
    np.testing.assert_array_equal(layer.eval()(x).data, x.data)


def test_without_noise_the_pooling_layers_pool(rng):
    x = rng.standard_normal(IMAGE)
    largest, mean = ops.max_pool2d(x, 2, 1).data, ops.avg_pool2d(x, 2, 1).data
    for training in (True, False):
        pool = lambda layer, training=training: layer.train(training)(x).data
        np.testing.assert_array_equal(pool(nn.PoolingDropout(2, 0, stride=1)), largest)
        np.testing.assert_array_equal(pool(nn.PoolingDropout(2, 0, "avg", 1)), mean)
        np.testing.assert_allclose(pool(nn.MaxDrop(2, 0.5, 0, stride=1)), largest / 2, rtol=1e-15)


@pytest.mark.parametrize("layer", [nn.Dropout, nn.SpatialDropout2d, partial(nn.PoolingDropout, 2)])
def test_with_p_1_everything_is_dropped(layer):
    x = np.ones((2, 4, 4, 3), np.float32)
    assert not layer(p=1)(x).data.any()


# ---------------------------------------------------------------- derivatives


@every_layer
@pytest.mark.parametrize("training", [True, False])
def test_derivatives_agree_with_central_differences(name, training, rng):
    ml.check_gradients(lambda x: make(name).train(training)(x) * 1.0, rng.standard_normal(LAYERS[name][1]))


@pytest.mark.parametrize("name", ["AlphaDropout", "PoolingDropout, max", "PoolingDropout, avg", "MaxDrop"])
def test_both_modes_and_second_derivatives(name, rng):
    """The layers are linear where their choice of the largest stays: the Hessian of v · y² is 2 Jᵀ diag(v) J."""
    x = ml.Tensor(rng.standard_normal((1, 3, 4, 1)), requires_grad=True)
    tall = np.zeros(x.size)
    y = lambda: make(name)(x).reshape(-1)
    J = ml.jacobian(lambda: ops.concatenate([y(), tall]), x)[: y().size]  # many rows: forward mode
    v = rng.standard_normal(len(J))
    (y() * v).sum().backward()
    np.testing.assert_allclose(v @ J, x.grad.reshape(-1), rtol=1e-12, atol=1e-14)
    H = ml.hessian(lambda: (y() * y() * v).sum(), x)
    np.testing.assert_allclose(H, 2 * J.T @ (v[:, None] * J), rtol=1e-12, atol=1e-12)


def test_the_gradient_of_the_largest_goes_to_the_chosen_element_times_its_mask():
    x = ml.Tensor(np.array([3.0, 5.0]).reshape(1, 1, 2, 1), requires_grad=True)
    for seed in range(8):
        kept = coins(np.random.default_rng(seed), (2,), 0.5)
        x.grad = None
        nn.PoolingDropout((1, 2), 0.5, generator=np.random.default_rng(seed))(x).sum().backward()
        expected = [0, 1] if kept[1] else [kept[0], 0]
        np.testing.assert_array_equal(x.grad.reshape(2), expected)


# ---------------------------------------------------------------- bad input and printing


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.Dropout(-0.1), r"^Dropout: p is -0.1, expected a number in \[0, 1\]"),
        (lambda: nn.Dropout(float("nan")), "Dropout: p is nan"),
        (lambda: nn.Dropout(0.5, scaling="never"), "Dropout: scaling is 'never', expected 'inverted' or 'eval'"),
        (lambda: nn.SpatialDropout2d(1.1), "SpatialDropout2d: p is 1.1"),
        (lambda: nn.SpatialDropout2d(0.5, "late"), "SpatialDropout2d: scaling is 'late'"),
        (lambda: nn.SpatialDropout2d()(np.ones((2, 3))), r"SpatialDropout2d: x has shape \(2, 3\), expected \(N, H, W"),
        (lambda: nn.SpatialDropout2d(0).eval()(np.ones(3)), r"SpatialDropout2d: x has shape \(3,\)"),
        (lambda: nn.GaussianDropout(1.5), r"GaussianDropout: p is 1.5, expected a number in \[0, 1\]"),
        (lambda: nn.GaussianDropout(1, "srivastava"), r"GaussianDropout: p is 1, expected a number in \[0, 1\)"),
        (lambda: nn.GaussianDropout(0.5, "mine"), "GaussianDropout: variance is 'mine', expected 'notes' or 'sriv"),
        (lambda: nn.AlphaDropout(1), r"AlphaDropout: p is 1, expected a number in \[0, 1\)"),
        (lambda: nn.PoolingDropout(0), "PoolingDropout: size is 0"),
        (lambda: nn.PoolingDropout(2, 2), "PoolingDropout: p is 2"),
        (lambda: nn.PoolingDropout(2, 0.5, "min"), "PoolingDropout: kind is 'min', expected 'max' or 'avg'"),
        (lambda: nn.PoolingDropout(2, 0.5, stride=-1), "PoolingDropout: stride is -1"),
        (lambda: nn.PoolingDropout(3)(np.ones((1, 2, 5, 1))), r"windows2d: size is \(3, 3\), larger than x"),
        (lambda: nn.PoolingDropout(3)(np.ones((2, 5))), r"windows2d: x has shape \(2, 5\)"),
        (lambda: nn.MaxDrop((2, 0)), r"MaxDrop: size is \(2, 0\)"),
        (lambda: nn.MaxDrop(2, mu=0), r"MaxDrop: mu is 0, expected a number in \(0, inf\)"),
        (lambda: nn.MaxDrop(2, sigma=-1), "MaxDrop: sigma is -1"),
        (lambda: nn.MaxDrop(2, sigma=float("inf")), "MaxDrop: sigma is inf"),
        (lambda: nn.MaxDrop(2, stride=0), "MaxDrop: stride is 0"),
        (lambda: ops.dropout(np.ones((2, 3)), 0.5, shared=(1, 2)), r"dropout: shared is \(1, 2\), expected axes of x"),
        (lambda: ops.gaussian_dropout(np.ones(2), -1), "gaussian_dropout: sigma is -1"),
        (lambda: ops.gaussian_dropout(np.ones(2), 1, float("inf")), "gaussian_dropout: mu is inf"),
        (lambda: ops.alpha_dropout(np.ones(2), 1), "alpha_dropout: p is 1"),
        (lambda: ops.windows2d(np.ones((1, 4, 4, 1)), 2.5), "windows2d: size is 2.5"),
        (lambda: ops.windows2d(np.ones((1, 4, 4, 1)), 2, 0), "windows2d: stride is 0"),
    ],
)
def test_bad_input_is_a_clear_error(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("layer", [nn.Dropout, nn.SpatialDropout2d, nn.GaussianDropout, nn.AlphaDropout])
@pytest.mark.parametrize("p", ["0.5", True, None])
def test_a_probability_is_a_number(layer, p):
    with pytest.raises(TypeError, match=f"{layer.__name__}: p is {p!r}, expected a number"):
        layer(p)


def test_integers_become_floating_point_numbers():
    x = ml.Tensor(np.ones((1, 4, 4, 2), np.int64))
    for name in LAYERS:
        assert make(name)(x).dtype.kind == "f", name


@pytest.mark.parametrize("training", [True, False])
def test_numpys_numbers_as_settings_promote_nothing(training):
    x, p = np.ones((1, 4, 4, 2), np.float32), np.float64(0.3)
    for layer in (
        nn.Dropout(p, "eval"),
        nn.SpatialDropout2d(p, "eval"),
        nn.GaussianDropout(p),
        nn.AlphaDropout(p),
        nn.PoolingDropout(2, p),
        nn.MaxDrop(2, mu=1 / p, sigma=p),
    ):
        assert layer.train(training)(x).dtype == np.float32, layer


@pytest.mark.parametrize(
    ("layer", "text"),
    [
        (nn.SpatialDropout2d(0.2), "SpatialDropout2d(p=0.2)"),
        (nn.GaussianDropout(0.2), "GaussianDropout(p=0.2, variance='notes')"),
        (nn.AlphaDropout(0.1), "AlphaDropout(p=0.1)"),
        (nn.PoolingDropout(2, 0.3, "avg"), "PoolingDropout(size=(2, 2), p=0.3, kind='avg', stride=(2, 2))"),
        (nn.MaxDrop(2, stride=1), "MaxDrop(size=(2, 2), mu=1.0, sigma=0.5, stride=(1, 1))"),
    ],
)
def test_printed_form(layer, text):
    assert repr(layer) == text

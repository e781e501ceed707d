"""Normalization layers against their equations: statistics, modes, running values, extreme inputs, errors."""

from __future__ import annotations

import numpy as np
import pytest

import minidl as ml
from minidl import nn

EPS = 1e-5

# Each layer for 6 channels, and the axes over which its equation takes mean and variance.
ON_IMAGES = {
    "batch": (lambda **kw: nn.BatchNorm(6, **kw), (0, 1, 2)),
    "layer": (lambda **kw: nn.LayerNorm(6, **kw), (1, 2, 3)),
    "instance": (lambda **kw: nn.InstanceNorm(6, **kw), (1, 2)),
}
ON_FEATURES = {
    "batch": (lambda **kw: nn.BatchNorm(6, **kw), (0,)),
    "layer": (lambda **kw: nn.LayerNorm(6, **kw), (1,)),
}
EVERY = {
    "batch": lambda: nn.BatchNorm(6),
    "layer": lambda: nn.LayerNorm(6),
    "instance": lambda: nn.InstanceNorm(6),
    "group": lambda: nn.GroupNorm(3, 6),
    "switchable": lambda: nn.SwitchableNorm(6),
}
PER_SAMPLE = ["layer", "instance", "group"]
WITH_RUNNING_VALUES = ["batch", "switchable"]
every = pytest.mark.parametrize("name", EVERY)


def images(rng, n=4, dtype=np.float64):
    """Images whose samples and channels all have means and variances of their own."""
    x = rng.standard_normal((n, 5, 4, 6)) * rng.uniform(0.5, 2, (n, 1, 1, 6)) + rng.standard_normal((n, 1, 1, 6))
    return x.astype(dtype)


def randomized(layer, rng):
    """Return the layer in float64, with parameters and buffers that a test can tell apart."""
    layer.astype(np.float64)
    for name, tensor in [*layer.named_parameters(), *layer.named_buffers()]:
        tensor.data = rng.uniform(0.5, 2, tensor.shape) if "variance" in name else rng.standard_normal(tensor.shape)
    return layer


def standardized(x, axes, eps=EPS):
    return (x - x.mean(axis=axes, keepdims=True)) / np.sqrt(x.var(axis=axes, keepdims=True) + eps)


def buffers(layer):
    return {name: buffer.data.copy() for name, buffer in layer.named_buffers()}


def same(a, b):
    assert a.keys() == b.keys()
    return all(np.array_equal(a[name], b[name]) for name in a)


# ---------------------------------------------------------------- the equations


@pytest.mark.parametrize("eps", [EPS, 0.5])
@pytest.mark.parametrize("name", ON_IMAGES)
def test_images_are_normalized_over_the_axes_of_the_equation(name, eps, rng):
    make, axes = ON_IMAGES[name]
    layer, x = randomized(make(eps=eps), rng), images(rng)
    expected = layer.gamma.data * standardized(x, axes, eps) + layer.beta.data
    np.testing.assert_allclose(layer(x).data, expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("name", ON_FEATURES)
def test_features_are_normalized_over_the_axes_of_the_equation(name, rng):
    make, axes = ON_FEATURES[name]
    layer, x = randomized(make(), rng), 3 * rng.standard_normal((5, 6)) + 2
    expected = layer.gamma.data * standardized(x, axes) + layer.beta.data
    np.testing.assert_allclose(layer(x).data, expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("groups", [1, 2, 3, 6])
def test_group_norm_normalizes_neighbouring_channels_together(groups, rng):
    layer, x = randomized(nn.GroupNorm(groups, 6), rng), images(rng)
    parts = [standardized(part, (1, 2, 3)) for part in np.split(x, groups, axis=3)]
    expected = layer.gamma.data * np.concatenate(parts, axis=3) + layer.beta.data
    np.testing.assert_allclose(layer(x).data, expected, rtol=1e-11, atol=1e-11)


def test_group_norm_of_features_normalizes_neighbours_together(rng):
    x = rng.standard_normal((4, 6))
    expected = standardized(x.reshape(4, 2, 3), (2,)).reshape(4, 6)
    two, one, layer = (make.astype(np.float64) for make in (nn.GroupNorm(2, 6), nn.GroupNorm(1, 6), nn.LayerNorm(6)))
    np.testing.assert_allclose(two(x).data, expected, rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(one(x).data, layer(x).data, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("groups", "twin"), [(1, nn.LayerNorm), (6, nn.InstanceNorm)])
def test_one_group_is_layer_norm_and_groups_of_one_channel_are_instance_norm(groups, twin, rng):
    layer = randomized(nn.GroupNorm(groups, 6), rng)
    other = twin(6).astype(np.float64)
    other.load_state_dict(layer.state_dict())
    x, g = images(rng), rng.standard_normal((4, 5, 4, 6))
    ours, theirs = (ml.Tensor(x, requires_grad=True) for _ in range(2))
    y, z = layer(ours), other(theirs)
    y.backward(g)
    z.backward(g)
    np.testing.assert_allclose(y.data, z.data, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(ours.grad, theirs.grad, rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(layer.gamma.grad, other.gamma.grad, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("make", [nn.LayerNorm, nn.InstanceNorm, lambda *a, **kw: nn.GroupNorm(2, *a, **kw)])
def test_without_affine_nothing_is_learned_and_the_output_is_standardized(make, rng):
    layer, x = make(6, affine=False), images(rng)
    assert not list(layer.parameters())
    np.testing.assert_array_equal(layer(x).data, make(6).astype(np.float64)(x).data)


@pytest.mark.parametrize("name", PER_SAMPLE)
def test_a_samples_output_depends_neither_on_the_batch_nor_on_the_mode(name, rng):
    layer, x = randomized(EVERY[name](), rng), images(rng)
    alone = np.concatenate([layer(x[i : i + 1]).data for i in range(len(x))])
    np.testing.assert_allclose(layer(x).data, alone, rtol=1e-13, atol=1e-13)
    np.testing.assert_array_equal(layer.eval()(x).data, layer.train()(x).data)


# ---------------------------------------------------------------- switchable normalization


def switchable_reference(layer, x, batch):
    """The equation as it stands; `batch` are the mean and variance of the batch's part."""
    softmax = lambda z: np.exp(z) / np.exp(z).sum()
    moments = [(x.mean(axis, keepdims=True), x.var(axis, keepdims=True)) for axis in ((1, 2), (1, 2, 3))] + [batch]
    mean = sum(w * mean for w, (mean, _) in zip(softmax(layer.mean_logits.data), moments, strict=True))
    variance = sum(w * var for w, (_, var) in zip(softmax(layer.variance_logits.data), moments, strict=True))
    return layer.gamma.data * (x - mean) / np.sqrt(variance + layer.eps) + layer.beta.data


def test_switchable_norm_is_its_equation_in_both_modes(rng):
    layer, x = randomized(nn.SwitchableNorm(6, eps=1e-2), rng), images(rng)
    running = layer.running_mean.data, layer.running_variance.data
    expected = switchable_reference(layer, x, running)
    np.testing.assert_allclose(layer.eval()(x).data, expected, rtol=1e-11, atol=1e-11)
    expected = switchable_reference(layer, x, (x.mean(axis=(0, 1, 2)), x.var(axis=(0, 1, 2))))
    np.testing.assert_allclose(layer.train()(x).data, expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("training", [True, False])
def test_switchable_norms_gradients_agree_with_central_differences(training, rng):
    layer = randomized(nn.SwitchableNorm(6, eps=1e-2), rng).train(training)
    names = [name for name, _ in layer.named_parameters()]

    def call(x, *parameters):
        for name, parameter in zip(names, parameters, strict=True):
            setattr(layer, name, parameter)
        return layer(x)

    parameters = [parameter.data for parameter in layer.parameters()]
    ml.check_gradients(call, images(rng, n=3), *parameters, rtol=1e-6, atol=1e-7, generator=rng)


@pytest.mark.parametrize(("chosen", "twin"), [(0, nn.InstanceNorm), (1, nn.LayerNorm), (2, nn.BatchNorm)])
@pytest.mark.parametrize("training", [True, False])
def test_switchable_norm_that_has_chosen_is_the_norm_that_it_chose(chosen, twin, training, rng):
    layer, x = randomized(nn.SwitchableNorm(6), rng).train(training), images(rng)
    layer.mean_logits.data = layer.variance_logits.data = np.where(np.arange(3) == chosen, 50.0, -50.0)
    other = twin(6).astype(np.float64).train(training)
    other.load_state_dict(layer.state_dict(), strict=False)
    np.testing.assert_allclose(layer(x).data, other(x).data, rtol=1e-11, atol=1e-11)


def test_switchable_norm_starts_by_mixing_all_three_equally():
    layer = nn.SwitchableNorm(6)
    for logits in (layer.mean_logits, layer.variance_logits):
        np.testing.assert_allclose(ml.ops.softmax(logits).data, [1 / 3] * 3, rtol=1e-6)


# ---------------------------------------------------------------- running values


@pytest.mark.parametrize("make", [nn.BatchNorm, nn.SwitchableNorm])
def test_running_values_follow_their_recursion(make, rng):
    layer = make(2, momentum=0.3)
    mean, variance = np.zeros(2), np.ones(2)
    for _ in range(4):
        x = rng.standard_normal((5, 3, 3, 2)).astype(np.float32) * 2 + 1
        layer(x)
        mean = 0.7 * mean + 0.3 * x.mean(axis=(0, 1, 2))
        variance = 0.7 * variance + 0.3 * x.var(axis=(0, 1, 2))
    np.testing.assert_allclose(layer.running_mean.data, mean, rtol=1e-5)
    np.testing.assert_allclose(layer.running_variance.data, variance, rtol=1e-5)


def test_batch_norm_evaluates_with_its_running_values(rng):
    layer = randomized(nn.BatchNorm(6), rng).eval()
    x = images(rng)
    mean, variance = layer.running_mean.data, layer.running_variance.data
    expected = layer.gamma.data * (x - mean) / np.sqrt(variance + EPS) + layer.beta.data
    np.testing.assert_allclose(layer(x).data, expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_with_relu_is_batch_norm_with_a_relu_behind(training, rng):
    x, g = images(rng), rng.standard_normal((4, 5, 4, 6))
    fused, plain = nn.BatchNorm(6, relu=True), nn.BatchNorm(6)
    plain.load_state_dict(randomized(fused, rng).state_dict())
    plain.astype(np.float64).load_state_dict(fused.state_dict())
    y, z = fused.train(training)(x), nn.Sequential(plain.train(training), nn.ReLU())(x)
    y.backward(g)
    z.backward(g)
    np.testing.assert_array_equal(y.data, z.data)
    np.testing.assert_array_equal(fused.gamma.grad, plain.gamma.grad)
    assert same(fused.state_dict(), plain.state_dict())


@pytest.mark.parametrize("name", WITH_RUNNING_VALUES)
def test_momentum_0_forgets_the_batch_and_1_forgets_the_rest(name, rng):
    make = {"batch": nn.BatchNorm, "switchable": nn.SwitchableNorm}[name]
    x = images(rng)
    still, latest = make(6, momentum=0), make(6, momentum=1)
    still(x)
    latest(x)
    np.testing.assert_array_equal(still.running_mean.data, np.zeros(6))
    np.testing.assert_allclose(latest.running_variance.data, x.var(axis=(0, 1, 2)), rtol=1e-5)


@every
def test_evaluation_changes_neither_buffers_nor_generators(name, rng):
    layer, x = EVERY[name](), images(rng, dtype=np.float32)
    layer(x)
    layer.eval()
    before, state = buffers(layer), ml.backend.default_generator().bit_generator.state
    first = layer(x).data
    np.testing.assert_array_equal(layer(x).data, first)
    assert same(before, buffers(layer))
    assert ml.backend.default_generator().bit_generator.state == state


@every
def test_a_loaded_state_gives_the_same_outputs_to_the_bit(name, rng):
    layer, x = EVERY[name](), images(rng, dtype=np.float32)
    randomized(layer, rng).astype(np.float32)
    layer(x)
    twin = EVERY[name]()
    twin.load_state_dict(layer.state_dict())
    for mode in (False, True):
        np.testing.assert_array_equal(twin.train(mode)(x).data, layer.train(mode)(x).data)
    assert same(buffers(twin), buffers(layer))


# ---------------------------------------------------------------- modes of differentiation


@every
@pytest.mark.parametrize("training", [True, False])
def test_jacobian_by_forward_mode_agrees_with_reverse_mode(name, training, rng):
    layer = randomized(EVERY[name](), rng).train(training)
    x = images(rng, n=2)
    v = rng.standard_normal(x.shape)
    J = ml.jacobian(lambda: layer(x), layer)
    layer(x).backward(v)
    gradient = np.concatenate([parameter.grad.reshape(-1) for parameter in layer.parameters()])
    np.testing.assert_allclose(v.reshape(-1) @ J, gradient, rtol=1e-10, atol=1e-10)


# ---------------------------------------------------------------- extreme inputs


@every
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", ["constant", "a single sample", "a single pixel", "zero", "large offset", "tiny"])
def test_outputs_and_gradients_stay_finite(name, training, dtype, kind, rng):
    x = {
        "constant": np.full((3, 4, 4, 6), 0.1),
        "a single sample": images(rng, n=1),
        "a single pixel": rng.standard_normal((1, 1, 1, 6)),
        "zero": np.zeros((3, 4, 4, 6)),
        "large offset": 1e4 + images(rng),
        "tiny": 1e-30 * images(rng),
    }[kind].astype(dtype)
    layer = EVERY[name]().astype(dtype).train(training)
    tensor = ml.Tensor(x, requires_grad=True)
    y = layer(tensor)
    y.backward(rng.standard_normal(y.shape))
    assert y.dtype == tensor.grad.dtype == dtype
    for values in (y.data, tensor.grad, *(p.grad for p in layer.parameters()), *buffers(layer).values()):
        assert np.isfinite(values).all()


@every
def test_a_large_offset_costs_no_more_than_its_own_rounding(name, rng):
    """float32 rounds x = 10⁴ + … to 5·10⁻⁴, of which a mean over many values must not make more."""
    x = (1e4 + rng.standard_normal((64, 32, 32, 6))).astype(np.float32)
    y = EVERY[name]()(x).data
    expected = EVERY[name]().astype(np.float64)(x.astype(np.float64)).data
    np.testing.assert_allclose(y, expected, atol=0.02)


# ---------------------------------------------------------------- errors and the printed form


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.BatchNorm(0), "BatchNorm: channels is 0, expected a positive integer"),
        (lambda: nn.BatchNorm(3, momentum=2), r"BatchNorm: momentum is 2, expected a number in \[0, 1\]"),
        (lambda: nn.BatchNorm(3, eps=0), r"BatchNorm: eps is 0, expected a number in \(0, inf\)"),
        (lambda: nn.SwitchableNorm(3, momentum=-0.1), "SwitchableNorm: momentum is -0.1"),
        (lambda: nn.LayerNorm(1.5), "LayerNorm: channels is 1.5"),
        (lambda: nn.LayerNorm(3, eps=-1), "LayerNorm: eps is -1"),
        (lambda: nn.GroupNorm(0, 3), "GroupNorm: groups is 0"),
        (lambda: nn.GroupNorm(2, 3), "GroupNorm: groups is 2, expected a divisor of channels, which is 3"),
        (lambda: nn.BatchNorm(3)(np.ones((2, 4))), r"batch_norm: x has shape \(2, 4\)"),
        (
            lambda: nn.LayerNorm(3)(np.ones((2, 4))),
            r"LayerNorm: x has shape \(2, 4\), expected \(N, H, W, 3\) or \(N, 3",
        ),
        (lambda: nn.LayerNorm(3)(np.ones((2, 4, 3))), r"LayerNorm: x has shape \(2, 4, 3\)"),
        (lambda: nn.GroupNorm(1, 3)(np.ones((2, 5, 5, 4))), r"GroupNorm: x has shape \(2, 5, 5, 4\)"),
        (lambda: nn.InstanceNorm(3)(np.ones((2, 3))), r"InstanceNorm: x has shape \(2, 3\), expected \(N, H, W, 3\)$"),
        (lambda: nn.SwitchableNorm(3)(np.ones((2, 3))), r"SwitchableNorm: x has shape \(2, 3\), expected \(N, H, W, 3"),
        (lambda: nn.LayerNorm(3)(np.ones((2, 0, 4, 3))), r"standardize: x has shape \(2, 0, 4, 3\)"),
        (lambda: nn.SwitchableNorm(3)(np.ones((2, 0, 4, 3))), r"mean: x has shape \(2, 0, 4, 3\)"),
        (lambda: ml.ops.standardize(np.ones((2, 3)), (2,)), r"standardize: axis is \(2,\), but x has 2 axes"),
    ],
)
def test_bad_input_is_a_clear_error(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_settings_of_another_type_are_a_type_error():
    with pytest.raises(TypeError, match="LayerNorm: eps is 'small', expected a number"):
        nn.LayerNorm(3, eps="small")
    with pytest.raises(TypeError, match="BatchNorm: relu is 'yes', expected True or False"):
        nn.BatchNorm(3, relu="yes")


def test_printed_forms_show_the_settings():
    assert repr(nn.BatchNorm(6)) == "BatchNorm(6, momentum=0.1, eps=1e-05)"
    assert repr(nn.BatchNorm(6, relu=True)) == "BatchNorm(6, momentum=0.1, eps=1e-05, relu=True)"
    assert repr(nn.SwitchableNorm(6, 0.3)) == "SwitchableNorm(6, momentum=0.3, eps=1e-05)"
    assert repr(nn.LayerNorm(6)) == "LayerNorm(6, eps=1e-05)"
    assert repr(nn.GroupNorm(2, 6)) == "GroupNorm(2, 6, eps=1e-05)"


# ---------------------------------------------------------------- rounding


@pytest.mark.parametrize(
    ("make", "shape", "value"),
    [
        (lambda: nn.BatchNorm(8), (50_000, 8), 3.3),
        (lambda: nn.BatchNorm(8), (128, 28, 28, 8), 200.1),
        (lambda: nn.InstanceNorm(1), (1, 512, 512, 1), 200.1),
        (lambda: nn.LayerNorm(2), (1, 512, 256, 2), 200.1),
        (lambda: nn.SwitchableNorm(1), (1, 224, 224, 1), 200.1),
        (lambda: nn.SwitchableNorm(16), (64, 32, 32, 16), 50.3),
    ],
)
def test_equal_values_become_zero_in_float32_too(make, shape, value):
    """What the mean loses by rounding, 1 / √ε = 316 would make visible."""
    y = make()(np.full(shape, value, np.float32))
    assert y.dtype == np.float32
    assert np.abs(y.data).max() < 0.01


@pytest.mark.parametrize("make", [nn.BatchNorm, nn.InstanceNorm, nn.SwitchableNorm, nn.LayerNorm])
def test_a_mean_of_10000_deviations_costs_no_more_than_the_inputs_rounding(make, rng):
    x = (1e4 + rng.standard_normal((2, 224, 224, 3))).astype(np.float32)
    exact = make(3).astype(np.float64)(x.astype(np.float64)).data
    assert np.abs(make(3)(x).data - exact).max() < 1e-3 + np.spacing(np.float32(1e4))


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.uint8])
@pytest.mark.parametrize(
    "make", [nn.BatchNorm, nn.LayerNorm, nn.InstanceNorm, lambda c: nn.GroupNorm(1, c), nn.SwitchableNorm]
)
def test_an_array_is_taken_in_the_dtype_of_the_parameters(make, dtype, rng):
    x = (10 * rng.random((2, 4, 4, 3))).astype(dtype)
    assert make(3)(x).dtype == np.float32


def test_standardize_takes_an_axis_and_refuses_one_that_comes_twice(rng):
    x = rng.standard_normal((4, 5))
    np.testing.assert_allclose(ml.ops.standardize(x, -1, eps=0).data.std(axis=1), 1)
    with pytest.raises(ValueError, match=r"standardize: axis is \(1, -1\), which names an axis of x twice"):
        ml.ops.standardize(x, (1, -1))
    with pytest.raises(ValueError, match="standardize: eps is -1"):
        ml.ops.standardize(x, 1, eps=-1)

"""Loss landscapes: the numbers against a quadratic and a by-hand evaluation, the model as it was, the pictures."""

from __future__ import annotations

import re

import numpy as np
import pytest

import minidl as ml
from minidl import nn, ops, optim, training, viz


class Bowl(nn.Module):
    """Its output is Σ c W², whatever the input, so that the loss is known everywhere."""

    def __init__(self, weights, scales):
        self.weight = nn.Parameter(np.array(weights, np.float64))
        self.scales = np.array(scales, np.float64)

    def forward(self, x):
        return (self.scales * self.weight * self.weight).sum() + 0.0 * x.sum()


def only_output(outputs, labels):
    return outputs


def network(batch_norm=True):
    ml.manual_seed(0)
    norm = nn.BatchNorm(3) if batch_norm else nn.ReLU()
    return nn.Sequential(
        conv=nn.Conv2d(1, 3, 3),
        norm=norm,
        pool=nn.MaxPool2d(2),
        flatten=nn.Flatten(),
        drop=nn.Dropout(0.5),
        dense=nn.Dense(27, 4),
    )


@pytest.fixture
def batch(rng):
    return rng.random((10, 8, 8, 1)).astype(np.float32), rng.integers(0, 4, 10)


ONE = np.zeros((1, 1), np.float32), np.zeros(1, int)


def test_filters_of_a_random_direction_are_as_long_as_those_of_the_weights():
    model = network()
    direction = training.random_direction(model, np.random.default_rng(1))
    assert list(direction) == [name for name, _ in model.named_parameters()]
    for o in range(3):
        W, D = model.conv.weight.data[..., o], direction["conv.weight"][..., o]
        assert np.linalg.norm(D) == pytest.approx(np.linalg.norm(W.astype(float)), rel=1e-12)
    for unit in range(4):
        W, D = model.dense.weight.data[:, unit], direction["dense.weight"][:, unit]
        assert np.linalg.norm(D) == pytest.approx(np.linalg.norm(W.astype(float)), rel=1e-12)
    for name in ("conv.bias", "norm.gamma", "norm.beta", "dense.bias"):
        assert not direction[name].any()
    again = training.random_direction(model, np.random.default_rng(1))
    other = training.random_direction(model, np.random.default_rng(2))
    assert np.array_equal(direction["conv.weight"], again["conv.weight"])
    assert not np.array_equal(direction["conv.weight"], other["conv.weight"])


def test_a_line_and_a_plane_of_a_quadratic_are_what_they_should_be():
    model = Bowl([1.0, -2.0, 0.5], [1.0, 3.0, 10.0])
    D, E = np.array([1.0, 0.0, 2.0]), np.array([0.0, 1.0, 0.0])
    line = training.loss_line(model, *ONE, {"weight": D}, span=(-1, 3), points=5, loss=only_output)
    assert line.alpha.tolist() == [-1, 0, 1, 2, 3]
    W, c = np.array([1.0, -2.0, 0.5]), model.scales
    np.testing.assert_allclose(line.losses, [(c * (W + a * D) ** 2).sum() for a in line.alpha], rtol=1e-14)

    plane = training.loss_plane(model, *ONE, ({"weight": D}, {"weight": E}), points=3, loss=only_output)
    expected = [[(c * (W + a * D + b * E) ** 2).sum() for a in (-1, 0, 1)] for b in (-1, 0, 1)]
    np.testing.assert_allclose(plane.losses, expected, rtol=1e-14)
    assert plane.alpha.tolist() == plane.beta.tolist() == [-1, 0, 1]


def test_the_loss_is_that_of_evaluation_mode_over_all_batches(batch):
    model = network()
    model.norm.running_mean.data = np.array([0.3, -0.2, 0.1])
    x, y = batch
    line = training.loss_line(model, x, y, points=3, batch_size=4)
    model.eval()
    expected = ops.cross_entropy(model(x), y).item()
    assert line.losses[1] == pytest.approx(expected, rel=1e-6)
    plane = training.loss_plane(model, x, y, points=3)
    np.testing.assert_allclose(plane.losses[1], line.losses, rtol=1e-6)  # the same first direction, at β = 0
    other = training.loss_line(model, x, y, points=3, seed=1)
    assert other.losses[0] != pytest.approx(line.losses[0])


@pytest.mark.parametrize("optimizer", [None, optim.Adam, optim.Nesterov])
def test_the_model_is_afterwards_what_it_was(batch, optimizer):
    model = network()
    x, y = batch
    step = None if optimizer is None else optimizer(model, lr=0.01)
    for _ in range(3 if step else 0):
        step.zero_grad()
        ops.cross_entropy(model(x), y).backward()
        step.step()
    model.conv.eval()
    before, modes = model.state_dict(), [module.training for _, module in model.named_modules()]
    gradients = [parameter.grad for parameter in model.parameters()]

    def unchanged():
        after = model.state_dict()
        return (
            all(np.array_equal(before[name], after[name]) for name in before)
            and modes == [module.training for _, module in model.named_modules()]
            and all(a is p.grad for a, p in zip(gradients, model.parameters(), strict=True))
        )

    training.loss_line(model, x, y, points=3)
    assert unchanged()
    training.loss_plane(model, x, y, points=2)
    assert unchanged()
    path = [{name: value + 0.1 * i * i + 0.01 * i * value**2 for name, value in before.items()} for i in range(4)]
    training.loss_paths(model, x, y, {"a": path}, points=2)
    assert unchanged()

    def failing(outputs, labels):
        raise ArithmeticError("on purpose")

    for measure in (
        lambda: training.loss_line(model, x, y, loss=failing),
        lambda: training.loss_plane(model, x, y, loss=failing),
        lambda: training.loss_paths(model, x, y, {"a": path}, loss=failing),
    ):
        with pytest.raises(ArithmeticError, match="on purpose"):
            measure()
        assert unchanged()
    if step:
        step.zero_grad()
        ops.cross_entropy(model(x), y).backward()
        step.step()  # the optimizer still holds the weights
        assert not unchanged()


def test_paths_lie_in_their_plane_where_it_holds_them():
    """Weights in a plane of a space of five dimensions: nothing is lost, and the places have their distances."""
    rng = np.random.default_rng(3)
    basis = np.linalg.qr(rng.standard_normal((5, 2)))[0].T
    offset = rng.standard_normal(5)
    places = {"a": rng.standard_normal((6, 2)) * (5, 1), "b": rng.standard_normal((4, 2)) * (5, 1)}
    paths = {name: [{"weight": offset + p @ basis} for p in at] for name, at in places.items()}
    model = Bowl(offset, [1, 2, 3, 4, 5])
    found = training.loss_paths(model, *ONE, paths, points=5, loss=only_output)
    assert found.explained == pytest.approx(1)
    assert found.variance.sum() == pytest.approx(1)
    every = np.concatenate(list(places.values()))
    covariance = np.linalg.eigvalsh(np.cov(every.T))[::-1]
    np.testing.assert_allclose(found.variance[:2], covariance / covariance.sum(), rtol=1e-10)
    for name, at in places.items():
        np.testing.assert_allclose(found.projected[name], found.true[name], rtol=1e-10)
        expected = [(model.scales * state["weight"] ** 2).sum() for state in paths[name]]
        np.testing.assert_allclose(found.true[name], expected, rtol=1e-12)
        distances = np.linalg.norm(at[:, None] - at[None], axis=-1)
        ours = found.places[name]
        np.testing.assert_allclose(np.linalg.norm(ours[:, None] - ours[None], axis=-1), distances, atol=1e-12)
    assert found.plane.alpha[0] < min(p[:, 0].min() for p in found.places.values())
    assert found.plane.beta[-1] > max(p[:, 1].max() for p in found.places.values())


def test_what_the_plane_does_not_hold_is_told():
    rng = np.random.default_rng(0)
    scales = np.array([3.0, 2.0, 1.0])
    weights = rng.standard_normal((50, 3)) * scales
    model = Bowl(np.zeros(3), [1.0, 1.0, 1.0])
    found = training.loss_paths(model, *ONE, {"a": [{"weight": w} for w in weights]}, points=2, loss=only_output)
    eigenvalues = np.linalg.eigvalsh(np.cov(weights.T))[::-1]
    assert found.explained == pytest.approx(eigenvalues[:2].sum() / eigenvalues.sum())
    lost = ((weights - weights.mean(0)) ** 2).sum() * (1 - found.explained)
    differences = found.true["a"].sum() - found.projected["a"].sum()
    assert differences == pytest.approx(lost, rel=1e-6)  # of |W|², by Pythagoras; the cross terms sum to zero
    assert f"{found.explained:.1%}" in str(found)
    assert f"{found.true['a'][-1]:.4f}" in str(found)


def test_the_true_loss_is_taken_with_the_statistics_of_its_weights(batch):
    model = network()
    x, y = batch
    states = []
    for i in range(3):
        model.norm.running_mean.data = np.full(3, 0.2 * i)
        model.dense.weight.data = model.dense.weight.data * (1 + 0.2 * i * i) + 0.1 * i
        states.append(model.state_dict())
    found = training.loss_paths(model, x, y, {"a": states}, points=2)
    for state, true in zip(states, found.true["a"], strict=True):
        model.load_state_dict(state)
        with nn.evaluating(model):
            assert true == pytest.approx(ops.cross_entropy(model(x), y).item(), rel=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, x, y: training.loss_line(m, x, y, {"conv": 1}), "has 'conv', which names no parameter; there are"),
        (lambda m, x, y: training.loss_line(m, x, y, {"conv.bias": np.ones(2)}), "conv.bias of shape (2,), expect"),
        (lambda m, x, y: training.loss_line(m, x, y, {"conv.bias": [1, 2, np.nan]}), "conv.bias with NaN or infinite"),
        (lambda m, x, y: training.loss_line(m, x, y, {}), "loss_line: a direction is {}, expected a mapping"),
        (lambda m, x, y: training.loss_line(m, x, y, points=1), "loss_line: points is 1, expected at least 2"),
        (lambda m, x, y: training.loss_line(m, x, y, span=(1, 1)), "loss_line: span is (1, 1), expected a pair"),
        (lambda m, x, y: training.loss_line(m, x, y, span=3), "loss_line: span is 3, expected a pair"),
        (lambda m, x, y: training.loss_line(m, x, y, seed=-1), "loss_line: seed is -1"),
        (lambda m, x, y: training.loss_plane(m, x, y, [{}]), "loss_plane: directions is not a pair"),
        (lambda m, x, y: training.loss_plane(m, x, y, points=0), "loss_plane: points is 0"),
        (lambda m, x, y: training.loss_paths(m, x, y, {}), "loss_paths: paths is empty"),
        (lambda m, x, y: training.loss_paths(m, x, y, {"a": []}), "paths['a'] is empty"),
        (lambda m, x, y: training.loss_paths(m, x, y, {"a": [{}]}), "paths['a'][0] lacks conv.bias"),
        (lambda m, x, y: training.loss_paths(m, x, y, {"a": [m.state_dict()]}), "lie on one line"),
        (lambda m, x, y: training.loss_paths(m, x, y, {"a": [m.state_dict()] * 3}), "lie on one line"),
        (lambda m, x, y: training.loss_paths(m, x, y, {"a": [m.state_dict()]}, margin=-1), "margin is -1"),
        (
            lambda m, x, y: training.loss_paths(m, x, y, {"a": [m.state_dict() | {"conv.bias": [np.inf] * 3}]}),
            "paths['a'][0] has conv.bias with NaN or infinite values",
        ),
    ],
)  # fmt: skip
def test_bad_input_is_refused(batch, call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call(network(), *batch)


def test_a_line_that_overflows_has_no_warnings_and_a_gap(batch):
    model = network(batch_norm=False)
    line = training.loss_line(model, *batch, span=(-1, 1e30), points=4)
    assert np.isfinite(line.losses[0])
    assert not np.isfinite(line.losses[-1])
    viz.loss_lines({"a": line}, "Title", "subtitle").canvas.draw()


# ---------------------------------------------------------------- pictures


def planes():
    at = np.linspace(-1, 1, 7)
    bowl = 0.1 + at[None] ** 2 + 3 * at[:, None] ** 2
    wide = training.LossPlane(at, at, bowl)
    holed = bowl.copy()
    holed[0, 0] = np.inf
    return {"wide": wide, "holed": training.LossPlane(at, at, holed)}


def nothing_is_cut_off(figure):
    figure.canvas.draw()
    page = figure.bbox
    for axes in figure.axes:
        box = axes.get_tightbbox()
        assert page.x0 - 1 <= box.x0 < box.x1 <= page.x1 + 1
        assert page.y0 - 1 <= box.y0 < box.y1 <= page.y1 + 1


def test_lines_are_drawn_as_they_are():
    at = np.linspace(-1, 1, 5)
    lines = {"one": training.LossLine(at, at**2 + 1), "two": training.LossLine(at, np.array([1, 2, 3, 4, np.nan]))}
    figure = viz.loss_lines(lines, "Title", "subtitle")
    axes = figure.axes[0]
    assert axes.get_yscale() == "log"
    drawn = {line.get_label(): line.get_ydata() for line in axes.lines if not line.get_label().startswith("_")}
    np.testing.assert_array_equal(drawn["one"], at**2 + 1)
    np.testing.assert_array_equal(drawn["two"], [1, 2, 3, 4, np.nan])
    nothing_is_cut_off(figure)


def test_planes_share_their_levels_and_mark_the_weights():
    figure = viz.loss_planes(planes(), "Title", "subtitle")
    first, second, bar = figure.axes
    assert [axes.get_title(loc="left") for axes in (first, second)] == ["wide", "holed"]
    assert first.get_title(loc="right") == "lowest 0.1"
    assert np.array_equal(first.collections[0].levels, second.collections[0].levels)
    assert all(axes.lines[0].get_xydata().tolist() == [[0, 0]] for axes in (first, second))
    assert bar.get_ylabel() == "loss"
    nothing_is_cut_off(figure)


def test_paths_are_drawn_where_they_are_with_true_and_projected_loss():
    plane = planes()["wide"]
    places = {"SGD": np.array([[0, 0], [0.5, 0.5], [1, 0]]), "Adam": np.array([[0, 0], [-0.5, 0.2], [-1, 1]])}
    true = {"SGD": np.array([3.0, 2, 1]), "Adam": np.array([3.0, 1, np.nan])}
    projected = {"SGD": np.array([3.0, 2.5, 2]), "Adam": np.array([3.0, 2, 1])}
    found = training.LossPaths(plane, places, np.array([0.6, 0.3, 0.1]), true, projected)
    figure = viz.loss_paths(found, "Title", "subtitle")
    left, right, _ = figure.axes
    assert "60%" in left.get_xlabel()
    assert "30%" in left.get_ylabel()
    shown = {line.get_label(): line.get_xydata() for line in left.lines}
    np.testing.assert_array_equal(shown["SGD"], places["SGD"])
    np.testing.assert_array_equal(shown["Adam"], places["Adam"])
    losses = [line.get_ydata() for line in right.lines]
    for expected in (*true.values(), *projected.values()):
        assert any(np.array_equal(expected, values, equal_nan=True) for values in losses)
    assert found.explained == pytest.approx(0.9)
    nothing_is_cut_off(figure)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: viz.loss_lines({}, "", ""), "loss_lines: lines has 0 entries, expected 1 to 6"),
        (lambda: viz.loss_planes(dict.fromkeys("abcdefg", planes()["wide"]), "", ""), "planes has 7 entries"),
        (
            lambda: viz.loss_lines({"a": training.LossLine(np.arange(2), np.full(2, np.nan))}, "", ""),
            "loss_lines: no loss of 'a' is finite",
        ),
    ],
)
def test_what_cannot_be_drawn_is_refused(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call()

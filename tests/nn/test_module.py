"""Module: finding parameters, modes, saving and loading, the summary."""

from __future__ import annotations

import copy

import numpy as np
import pytest

import minidl as ml
from minidl import models, nn, ops, optim


class Twin(nn.Module):
    """Two layers in a list that share a weight, a buffer, and a nested model."""

    def __init__(self):
        self.first = nn.Dense(3, 3)
        self.layers = [nn.Dense(3, 3), nn.BatchNorm(3)]
        self.layers[0].weight = self.first.weight
        self.inner = nn.Sequential(nn.Dense(3, 2), nn.ReLU())

    def forward(self, x):
        for layer in (self.first, *self.layers, self.inner):
            x = layer(x)
        return x


def test_names_are_paths_and_shared_parameters_come_once():
    names = [name for name, _ in Twin().named_parameters()]
    assert names == [
        "first.weight", "first.bias", "layers.0.bias", "layers.1.gamma", "layers.1.beta",
        "inner.0.weight", "inner.0.bias",
    ]  # fmt: skip
    assert [name for name, _ in Twin().named_buffers()] == ["layers.1.running_mean", "layers.1.running_variance"]


def test_parameters_are_found_in_nested_containers_and_circles_end():
    class Nested(nn.Module):
        def __init__(self):
            self.scales = [nn.Parameter([1.0]), {"a": nn.Parameter([2.0])}]
            self.blocks = {"x": [nn.Dense(1, 1, bias=False)]}
            self.blocks["x"][0].parent = self

    names = [name for name, _ in Nested().named_parameters()]
    assert names == ["scales.0", "scales.1.a", "blocks.x.0.weight"]


def test_a_module_with_parameters_and_children_has_a_row_of_its_own():
    class Scaled(nn.Module):
        def __init__(self):
            self.inner = nn.Dense(3, 2)
            self.scale = nn.Parameter(np.ones(2))

        def forward(self, x):
            return self.inner(x) * self.scale

    summary = Scaled().summary((3,))
    assert [(row.kind, row.parameters) for row in summary.rows] == [("Dense", 8), ("Scaled", 2)]
    assert summary.parameters == 10


def test_train_and_eval_reach_every_module():
    model = Twin()
    assert all(module.training for _, module in model.named_modules())
    assert model.eval() is model
    assert not any(module.training for _, module in model.named_modules())
    model.train()
    assert all(module.training for _, module in model.named_modules())


def test_state_dict_round_trip(rng):
    model, other = Twin(), Twin()
    x = rng.standard_normal((4, 3)).astype(np.float32)
    model(x)
    other.load_state_dict(model.state_dict())
    np.testing.assert_array_equal(other.eval()(x).data, model.eval()(x).data)


def test_state_dict_is_a_copy():
    model = Twin()
    state = model.state_dict()
    state["first.bias"][...] = 9
    assert not model.first.bias.data.any()


def test_load_state_dict_names_every_fault_and_loads_nothing():
    model = Twin()
    state = model.state_dict()
    before = copy.deepcopy(state)
    del state["first.bias"]
    state["extra"] = np.zeros(1)
    state["inner.0.weight"] = np.zeros((2, 2))
    state["layers.1.gamma"] = np.full(3, 9.0)
    with pytest.raises(ValueError, match="missing: first.bias; unexpected: extra; inner.0.weight has shape") as caught:
        model.load_state_dict(state)
    assert "expected (3, 2)" in str(caught.value)
    with pytest.raises(ValueError, match=r"layers.1.beta has dtype <U1, expected real numbers"):
        model.load_state_dict(before | {"layers.1.beta": np.array(["a", "b", "c"])})
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[name])
    model.load_state_dict(state, strict=False)
    np.testing.assert_array_equal(model.layers[1].gamma.data, [9, 9, 9])
    with pytest.raises(ValueError, match=r"missing: first.bias, .*; unexpected: body.first.bias, "):
        model.load_state_dict({f"body.{name}": value for name, value in before.items()}, strict=False)


def test_load_state_dict_reaches_the_optimizers_vector():
    model = models.mlp([2, 2])
    optimizer = optim.SGD(model)
    state = {name: np.full_like(value, 3) for name, value in model.state_dict().items()}
    model.load_state_dict(state)
    np.testing.assert_array_equal(optimizer.weights, np.full(6, 3))


def test_astype_converts_everything_before_an_optimizer_takes_hold():
    model = Twin().astype("float64")
    assert {value.dtype for value in model.state_dict().values()} == {np.dtype("float64")}
    assert model(np.ones((2, 3))).dtype == np.float64
    optimizer = optim.SGD(model)
    with pytest.raises(RuntimeError, match="an optimizer holds first.weight"):
        model.astype("float32")
    with pytest.raises(TypeError, match="dtype is int64"):
        Twin().astype("int64")
    del optimizer


def test_deepcopy_of_a_model_is_independent_of_its_optimizer():
    model = models.mlp([2, 2])
    optimizer = optim.SGD(model, lr=1)
    twin = copy.deepcopy(model)
    ops.cross_entropy(model(np.ones((1, 2), np.float32)), [0]).backward()
    before = twin.state_dict()
    optimizer.step()
    for name, value in twin.state_dict().items():
        np.testing.assert_array_equal(value, before[name])
    assert isinstance(twin[1].weight, nn.Parameter)


def test_observe_sees_every_output_and_ends():
    model, seen = models.mlp([2, 3, 2]), []
    with nn.observe(lambda module, output: seen.append((type(module).__name__, output.shape))):
        model(np.ones((1, 2), np.float32))
    model(np.ones((1, 2), np.float32))
    assert seen == [
        ("Flatten", (1, 2)), ("Dense", (1, 3)), ("ReLU", (1, 3)), ("Dense", (1, 2)), ("Sequential", (1, 2)),
    ]  # fmt: skip


def test_sequential_by_order_and_by_name():
    model = nn.Sequential(nn.ReLU(), last=nn.Tanh())
    assert [name for name, _ in model.children()] == ["0", "last"]
    assert len(model) == 2
    assert isinstance(model[1], nn.Tanh)
    assert [type(module) for module in model] == [nn.ReLU, nn.Tanh]
    assert [name for name, _ in model[1:].children()] == ["last"]
    assert model[1:][0] is model[1]
    with pytest.raises(TypeError, match="'0' is function, expected a Module"):
        nn.Sequential(lambda x: x)
    with pytest.raises(ValueError, match="cannot be named 'train'"):
        nn.Sequential(train=nn.ReLU())


def test_repr_shows_the_structure():
    assert repr(nn.Sequential(a=nn.Dense(2, 3))) == "Sequential(\n  (a): Dense(2, 3)\n)"
    assert repr(nn.Dropout(0.25)) == "Dropout(p=0.25)"


# ---------------------------------------------------------------- LeNet-5 and its summary

LENET5 = [
    ("Conv2d", (24, 24, 6), 156),
    ("AvgPool2d", (12, 12, 6), 0),
    ("Conv2d", (8, 8, 16), 2_416),
    ("AvgPool2d", (4, 4, 16), 0),
    ("Flatten", (256,), 0),
    ("Dense", (120,), 30_840),
    ("Dropout", (120,), 0),
    ("Dense", (84,), 10_164),
    ("Dropout", (84,), 0),
    ("Dense", (10,), 850),
]


def test_lenet5_has_the_shapes_and_the_parameters_of_the_paper():
    summary = models.lenet5().summary((28, 28, 1))
    rows = [(row.kind, row.output_shape, row.parameters) for row in summary.rows if row.kind != "ReLU"]
    assert rows == LENET5
    assert summary.parameters == 44_426
    assert "44,426" in str(summary)
    assert str(summary).splitlines()[2].split() == ["conv1", "Conv2d", "(24,", "24,", "6)", "156"]


def test_summary_leaves_modes_buffers_and_generator_alone():
    model = Twin()
    model.layers[1].eval()
    state, generator = model.state_dict(), ml.backend.default_generator().bit_generator.state
    model.summary((3,))
    assert model.training
    assert not model.layers[1].training
    assert ml.backend.default_generator().bit_generator.state == generator
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, state[name])


def test_summary_checks_its_argument():
    with pytest.raises(ValueError, match=r"input_shape is \(0, 3\)"):
        models.mlp([3, 2]).summary((0, 3))
    with pytest.raises(ValueError, match="Dense: x has shape"):
        models.mlp([3, 2]).summary((4,))
    with pytest.raises(TypeError, match="summary: input_shape is 3, expected the shape of one sample"):
        models.mlp([3, 2]).summary(3)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others():
    def weights(seed):
        ml.manual_seed(seed)
        return np.concatenate([parameter.data.ravel() for parameter in models.lenet5().parameters()])

    np.testing.assert_array_equal(weights(1), weights(1))
    assert not np.array_equal(weights(1), weights(2))


def test_lenet5_equals_pytorchs_with_copied_weights(torch, rng):
    """The whole network: outputs, loss and all gradients, float64, 1e-10."""
    model = models.lenet5(dropout=0).astype("float64")
    tn = torch.nn
    twin = tn.Sequential(
        tn.Conv2d(1, 6, 5), tn.ReLU(), tn.AvgPool2d(2), tn.Conv2d(6, 16, 5), tn.ReLU(), tn.AvgPool2d(2), tn.Flatten(),
        tn.Linear(256, 120), tn.ReLU(), tn.Linear(120, 84), tn.ReLU(), tn.Linear(84, 10),
    ).double()  # fmt: skip

    def ours(name, value):
        """Bring PyTorch's layout of a weight (or its gradient) to minidl's: channels last, flattened in that order."""
        if value.ndim == 4:
            return value.transpose(2, 3, 1, 0)
        if value.shape == (120, 256):
            return value.reshape(120, 16, 4, 4).transpose(2, 3, 1, 0).reshape(256, 120)
        return value.T if value.ndim == 2 else value

    pairs = list(zip(model.named_parameters(), twin.parameters(), strict=True))
    for (name, parameter), other in pairs:
        parameter.data = ours(name, other.detach().numpy())
    x, labels = rng.random((4, 28, 28, 1)), np.array([1, 0, 9, 3])
    loss = ops.cross_entropy(model(x), labels)
    loss.backward()
    expected = tn.functional.cross_entropy(twin(torch.tensor(x.transpose(0, 3, 1, 2))), torch.tensor(labels))
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    for (name, parameter), other in pairs:
        np.testing.assert_allclose(parameter.grad, ours(name, other.grad.numpy()), rtol=1e-10, atol=1e-13, err_msg=name)


def test_names_that_would_clash_are_refused():
    with pytest.raises(ValueError, match=r"cannot be named 'a\.0': dots stand between levels"):
        nn.Sequential(**{"a.0": nn.ReLU()})

    class Clashing(nn.Module):
        def __init__(self):
            self.parts = {1: nn.Dense(2, 2), "1": nn.Dense(2, 2)}

    with pytest.raises(ValueError, match=r"two different parameters or buffers are named 'parts\.1\.weight'"):
        Clashing().state_dict()


@pytest.mark.parametrize("state", [None, "model.safetensors", {1: np.zeros(2)}])
def test_a_state_is_a_dictionary_by_name(state):
    with pytest.raises(TypeError, match=r"load_state_dict: state is .*, expected a dictionary of arrays by name"):
        models.mlp([3, 2]).load_state_dict(state)


def test_a_state_may_consist_of_tensors():
    model, other = models.mlp([3, 2]), models.mlp([3, 2])
    model.load_state_dict(dict(other.named_parameters()))
    np.testing.assert_array_equal(model[1].weight.data, other[1].weight.data)


def test_summary_counts_a_layer_that_runs_twice_once_and_names_what_it_cannot_show():
    layer = nn.Dense(3, 3)
    summary = nn.Sequential(layer, nn.ReLU(), layer).summary((3,))
    assert sum(row.parameters for row in summary.rows) == summary.parameters == 12

    class Listing(nn.Module):
        def forward(self, x):
            return [x, x]

    with pytest.raises(TypeError, match="summary: Listing returned a list, expected a Tensor or a tuple"):
        Listing().summary((3,))

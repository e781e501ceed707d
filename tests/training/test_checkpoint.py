"""Checkpoints as files: what goes in comes out, and what is damaged or foreign is refused and changes nothing."""

from __future__ import annotations

import errno
import json
import math
import os
import random
import re
import resource
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import minidl as ml
from minidl import data, nn, ops, optim, training
from minidl.training import container

# ---------------------------------------------------------------- what goes in comes out

DTYPES = ["bool", "uint8", "int16", "int32", "int64", "uint64", "float16", "float32", "float64"]
LAYOUTS = {
    "as it is": lambda x: x,
    "transposed": lambda x: x.T,
    "Fortran": np.asfortranarray,
    "every other": lambda x: np.repeat(x, 2, axis=0)[::2] if x.ndim else x,
    "backwards": lambda x: x[..., ::-1] if x.ndim else x,
    "broadcast": lambda x: np.broadcast_to(x, (3, *x.shape)),
    "big-endian": lambda x: x.astype(x.dtype.newbyteorder(">")),
}


@st.composite
def arrays(draw):
    shape = draw(st.lists(st.integers(0, 4), max_size=4))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    values = rng.integers(0, 256, (*shape, 8), dtype=np.uint8)  # any bits, so NaN and ∞ among them
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    values = np.asarray(values[..., 0] > 127 if dtype.kind == "b" else values.view(dtype)[..., 0])
    return LAYOUTS[draw(st.sampled_from(sorted(LAYOUTS)))](values)


numbers = st.one_of(st.none(), st.booleans(), st.integers(-(2**130), 2**130), st.floats(), st.text(max_size=5))
names = st.text(st.characters(exclude_categories=["Cs"]), max_size=6).filter(lambda name: name != "__array__")
nests = st.recursive(
    st.one_of(numbers, arrays()),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(names, inner, max_size=4)),
    max_leaves=12,
)


def same(one, other):
    """Say whether two nests are equal, bit by bit and type by type."""
    if isinstance(one, np.ndarray):
        native = one.astype(one.dtype.newbyteorder("="))
        return (
            isinstance(other, np.ndarray)
            and (native.dtype, native.shape) == (other.dtype, other.shape)
            and native.tobytes() == other.tobytes()
        )
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float):
        return np.float64(one).tobytes() == np.float64(other).tobytes() or (math.isnan(one) and math.isnan(other))
    return one == other


@given(st.dictionaries(names, nests, max_size=5))
def test_any_nest_of_arrays_and_values_comes_back(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("container") / "any"
    container.write(path, content)
    assert same(content, container.read(path))


@given(st.dictionaries(names.filter(bool), arrays(), max_size=5))
def test_other_readers_of_the_format_find_the_arrays_under_their_names(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("container") / "any"
    container.write(path, content)
    assert same(content, load_file(path))
    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
    assert metadata["format"] == "minidl checkpoint"
    assert (metadata["version"], metadata["minidl"]) == ("1", ml.__version__)
    assert json.loads(metadata["state"]).keys() == content.keys()


def test_names_that_would_meet_are_kept_apart(tmp_path):
    content = {"a.b": np.arange(2), "a": {"b": np.arange(3), "b'": np.arange(4)}, "a.b'": np.arange(5)}
    container.write(tmp_path / "any", content)
    assert same(content, container.read(tmp_path / "any"))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.array(["text"]), "extra.1 has dtype <U4"),
        (np.zeros(2, np.complex64), "extra.1 has dtype complex64"),
        (np.zeros(2, object), "extra.1 has dtype object"),
        (np.zeros(2, np.longdouble), "extra.1 has dtype"),
        (np.longdouble(1), "extra.1 is of type longdouble"),
        ({1: 2}, "extra.1 has the key 1, expected a string"),
        ({"__array__": 2}, "extra.1 has the key '__array__'"),
        ({1, 2}, "extra.1 is of type set, expected arrays, numbers"),
        (ml.Tensor([1.0]), "extra.1 is of type Tensor"),
        (lambda: 1, "extra.1 is of type function"),
        (1j, "extra.1 is of type complex"),
    ],
)
def test_what_the_file_cannot_hold_is_named(tmp_path, value, message):
    path = tmp_path / "any"
    with pytest.raises(TypeError, match=f"save_checkpoint: {re.escape(message)}"):
        training.save_checkpoint(path, model=nn.Dense(2, 2), extra=[0, value])
    assert not os.listdir(tmp_path)


def test_numpys_numbers_come_back_as_pythons(tmp_path):
    extra = [np.float32(0.1), np.int64(3), np.bool_(True), (1, 2)]
    training.save_checkpoint(tmp_path / "any", model=nn.Dense(2, 2), extra=extra)
    assert training.load_checkpoint(tmp_path / "any") == [float(np.float32(0.1)), 3, True, [1, 2]]


def test_a_header_larger_than_the_format_allows_is_refused(tmp_path, monkeypatch):
    assert container.LARGEST_HEADER == 100_000_000, "as in the reader"
    monkeypatch.setattr(container, "LARGEST_HEADER", 2000)
    with pytest.raises(ValueError, match="takes 2,.* bytes, the format allows 2,000"):
        container.write(tmp_path / "any", {"text": "x" * 2000})
    assert not os.listdir(tmp_path)


# ---------------------------------------------------------------- the history


@pytest.mark.parametrize(
    "steps",
    [
        [],
        [{"step": 1, "epoch": 1, "loss": 0.1, "rate": None}, {"step": 2, "epoch": 1, "loss": math.inf, "rate": None}],
        [{"a": 2**70, "b": True, "c": "x"}, {"a": -1, "b": False, "c": "y"}],
        [{"a": -(2**63)}, {"a": 2**63 - 1}],
        [{"a": 1}, {"a": 1.0}],
        [{"a": 1}, {"b": 1}],
        [{"a": 1, "b": 2}, {"a": 1}],
        [{}, {}],
        [{"a": [1, {"b": None}]}],
    ],
)
def test_a_history_comes_back_type_by_type(tmp_path, steps):
    history = training.History(steps, steps[:1], "because")
    training.save_checkpoint(tmp_path / "any", model=nn.Dense(1, 1), history=history)
    again = training.History()
    training.load_checkpoint(tmp_path / "any", history=again)
    assert same([again.steps, again.epochs, again.stopped], [steps, steps[:1], "because"])


def test_a_long_history_is_columns_of_arrays(tmp_path):
    steps = [{"step": n, "epoch": 1 + n // 1000, "loss": 1 / n, "rate": 0.1} for n in range(1, 100_001)]
    training.save_checkpoint(tmp_path / "any", model=nn.Dense(1, 1), history=training.History(steps))
    assert load_file(tmp_path / "any")["history.steps.columns.2"].tolist() == [step["loss"] for step in steps]
    assert int.from_bytes((tmp_path / "any").read_bytes()[:8], "little") < 10_000, "the header"
    again = training.History()
    training.load_checkpoint(tmp_path / "any", history=again)
    assert again.steps == steps


# ---------------------------------------------------------------- loops of one's own


def network(hidden=6, classes=2):
    return nn.Sequential(
        body=nn.Dense(4, hidden), norm=nn.BatchNorm(hidden), drop=nn.Dropout(0.5), head=nn.Dense(hidden, classes)
    )


def train(model, optimizer, loader, losses):
    for x, y in loader:
        optimizer.zero_grad()
        loss = ops.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())


def everything(rng):
    """Return what a loop of one's own consists of, new."""
    ml.manual_seed(2)
    model = network()
    optimizer = optim.Nesterov(model, lr=optim.schedules.Cosine(0.1, 30))
    x = np.random.default_rng(0).standard_normal((40, 4)).astype(np.float32)
    return model, optimizer, data.Loader(x, (x[:, 0] > 0).astype(int), 8, seed=5)


def test_a_loop_of_ones_own_goes_on_bit_by_bit(tmp_path, rng):
    model, optimizer, loader = everything(rng)
    losses = []
    for epoch in range(4):
        train(model, optimizer, loader, losses)
        if epoch == 1:
            extra = {"epoch": 1, "losses": losses}
            training.save_checkpoint(tmp_path / "run", model=model, optimizer=optimizer, loader=loader, extra=extra)

    again, its_optimizer, its_loader = everything(rng)
    extra = training.load_checkpoint(tmp_path / "run", model=again, optimizer=its_optimizer, loader=its_loader)
    for _ in range(extra["epoch"] + 1, 4):
        train(again, its_optimizer, its_loader, extra["losses"])
    assert extra["losses"] == losses
    assert same(again.state_dict(), model.state_dict())
    assert same(its_optimizer.state_dict(), optimizer.state_dict())


def test_the_state_of_a_second_order_method_is_kept(tmp_path):
    model = nn.Dense(1, 1)
    optimizer = optim.LevenbergMarquardt(model)
    x = np.linspace(0, 1, 5, dtype=np.float32)[:, None]
    for _ in range(3):
        optimizer.step(lambda: model(x).reshape(-1) - 2 * x[:, 0])
    training.save_checkpoint(tmp_path / "run", model=model, optimizer=optimizer)
    other = nn.Dense(1, 1)
    again = optim.LevenbergMarquardt(other)
    training.load_checkpoint(tmp_path / "run", model=other, optimizer=again)
    assert same(again.state_dict(), optimizer.state_dict())


def test_the_model_alone_leaves_generators_and_modes(tmp_path):
    saved = network()
    saved.body.freeze()
    training.save_checkpoint(tmp_path / "run", model=saved)
    model = network().eval()
    before = ml.backend.default_generator().bit_generator.state
    training.load_checkpoint(tmp_path / "run", model=model)
    assert same(model.state_dict(), saved.state_dict())
    assert ml.backend.default_generator().bit_generator.state == before
    assert not model.training
    assert not model.body.frozen


def test_what_fits_is_loaded_if_one_is_not_strict(tmp_path):
    saved = network()
    training.save_checkpoint(tmp_path / "run", model=saved)
    model = network(classes=3).astype(np.float64)
    model.extra = nn.Dense(1, 1)
    head = model.head.weight.data
    message = "not all of the model was loaded: missing: extra.bias, extra.weight; head.weight has shape"
    with pytest.warns(UserWarning, match=message) as caught:
        training.load_checkpoint(tmp_path / "run", model=model, strict=False)
    assert caught[0].filename == __file__
    np.testing.assert_array_equal(model.body.weight.data, saved.body.weight.data.astype(np.float64), strict=True)
    np.testing.assert_array_equal(model.head.weight.data, head)


@pytest.mark.parametrize("kind", ["PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64"])
def test_every_kind_of_generator_returns_to_its_state(tmp_path, kind):
    def make():
        generator = np.random.Generator(getattr(np.random, kind)(3))
        model = nn.Sequential(drop=nn.Dropout(0.5, generator=generator), head=nn.Dense(2, 2))
        return model, optim.SGD(model), generator

    model, optimizer, generator = make()
    generator.random(7, np.float32)  # an odd number: half of the last 64 bits is still to come
    training.save_checkpoint(tmp_path / "run", model=model, optimizer=optimizer)
    expected = generator.random(5, np.float32), ml.backend.default_generator().random(3)
    model, optimizer, generator = make()
    training.load_checkpoint(tmp_path / "run", model=model, optimizer=optimizer)
    np.testing.assert_array_equal(generator.random(5, np.float32), expected[0])
    np.testing.assert_array_equal(ml.backend.default_generator().random(3), expected[1])


# ---------------------------------------------------------------- what is refused changes nothing


class Refusing:
    """A part that can be saved and not loaded."""

    def state_dict(self):
        return {"a": 1}

    def load_state_dict(self, state):
        raise KeyError("b")


def snapshot(model, optimizer, loader):
    generators = [ml.backend.default_generator(), *(m.generator for m in (model.drop,) if m.generator)]
    states = [generator.bit_generator.state for generator in generators]
    modes = [(module.training, module.frozen) for _, module in model.named_modules()]
    return [model.state_dict(), optimizer.state_dict(), loader.state_dict(), states, [list(mode) for mode in modes]]


def test_if_one_part_does_not_fit_no_part_is_loaded(tmp_path, rng):
    path = tmp_path / "run"
    model, optimizer, loader = everything(rng)
    train(model, optimizer, loader, [])
    model.body.freeze()
    training.save_checkpoint(path, model=model, optimizer=optimizer, loader=loader, mine=Refusing())
    model, optimizer, loader = everything(rng)
    before = snapshot(model, optimizer, loader)
    with pytest.raises(ValueError, match=r"load_checkpoint: the mine in .*run does not fit: 'b'"):
        training.load_checkpoint(path, model=model, optimizer=optimizer, loader=loader, mine=Refusing())
    assert same(snapshot(model, optimizer, loader), before)
    training.load_checkpoint(path, model=model, optimizer=optimizer, loader=loader)
    assert not same(snapshot(model, optimizer, loader), before)


def with_generator(kind):
    model = network()
    model.drop.generator = None if kind is None else np.random.Generator(kind(1))
    return model


@pytest.mark.parametrize(
    ("saved", "loaded", "message"),
    [
        (np.random.PCG64, None, "the generators in .* they are the thread's, drop.generator, expected the thread's$"),
        (np.random.PCG64, np.random.MT19937, "the generators in .* does not fit: .*MT19937"),
    ],
)
def test_other_generators_are_refused(tmp_path, saved, loaded, message):
    model = with_generator(saved)
    training.save_checkpoint(tmp_path / "run", model=model, optimizer=optim.SGD(model))
    model = with_generator(loaded)
    loader = data.Loader(np.zeros((1, 1)), [0])
    before = snapshot(model, optimizer := optim.SGD(model), loader)
    with pytest.raises(ValueError, match=message):
        training.load_checkpoint(tmp_path / "run", model=model, optimizer=optimizer)
    assert same(snapshot(model, optimizer, loader), before)


def test_another_dtype_is_refused_unless_one_is_not_strict(tmp_path):
    training.save_checkpoint(tmp_path / "run", model=nn.Dense(2, 2))
    with pytest.raises(ValueError, match=r"weight is float32, expected float64; bias is .*astype first, or.*strict=F"):
        training.load_checkpoint(tmp_path / "run", model=nn.Dense(2, 2).astype(np.float64))


def test_parts_that_are_none_are_named(tmp_path):
    model = nn.Dense(2, 2)
    path = tmp_path / "run"
    training.save_checkpoint(path, model=model)
    for arguments, error, message in (
        ({"model": 3}, TypeError, "load_checkpoint: model is of type int, expected Module"),
        ({"optimizer": model}, TypeError, "load_checkpoint: optimizer is of type Dense, expected Optimizer"),
        ({"mine": 3}, TypeError, "load_checkpoint: mine is of type int, which has no state_dict"),
        ({"modes": model}, ValueError, "a part cannot be named 'modes'"),
        ({"optimizer": optim.SGD(model)}, ValueError, "run holds no optimizer, only model, modes, generators, extra"),
        ({"mine": Refusing()}, ValueError, "run holds no mine, only"),
        (
            {"model": model, "mine": Refusing(), "strict": False},
            ValueError,
            "strict=False is for the model alone, not for mine",
        ),
        (
            {"model": model, "optimizer": optim.SGD(model), "strict": False},
            ValueError,
            "model alone, not for optimizer",
        ),
        ({"strict": False}, ValueError, "strict=False is for the model alone, and model is None"),
    ):
        with pytest.raises(error, match=re.escape(message)):
            training.load_checkpoint(path, **arguments)
    with pytest.raises(TypeError, match="save_checkpoint: model is of type int, expected Module"):
        training.save_checkpoint(path, model=3)


# ---------------------------------------------------------------- damaged and foreign files


@pytest.fixture
def checkpoint(tmp_path, rng):
    """The path of a real one, its bytes, and a model to load it into."""
    model, optimizer, loader = everything(rng)
    losses = []
    train(model, optimizer, loader, losses)
    path = tmp_path / "run.safetensors"
    history = training.History([{"step": n, "loss": loss} for n, loss in enumerate(losses)])
    training.save_checkpoint(path, model=model, optimizer=optimizer, loader=loader, history=history)
    return path, path.read_bytes(), everything(rng)


def refused(path, parts):
    """Load into the parts; expect a ValueError that names the file, and no change."""
    before = snapshot(*parts)
    with pytest.raises(
        ValueError, match=f"load_checkpoint: {re.escape(str(path))} is not a whole checkpoint"
    ) as caught:
        training.load_checkpoint(path, **dict(zip(("model", "optimizer", "loader"), parts, strict=True)))
    assert same(snapshot(*parts), before)
    return str(caught.value)


def test_a_file_that_was_cut_off_anywhere_is_refused(checkpoint):
    path, content, parts = checkpoint
    lengths = {0, 1, 7, 8, 9, len(content) - 1, *random.Random(0).sample(range(len(content)), 150)}
    for length in sorted(lengths):
        path.write_bytes(content[:length])
        refused(path, parts)
    path.write_bytes(content + b"\0")
    refused(path, parts)


def test_a_single_wrong_bit_anywhere_is_noticed(checkpoint):
    path, content, parts = checkpoint
    header = 8 + int.from_bytes(content[:8], "little")
    assert header < len(content)
    draw = random.Random(1)
    places = [
        *range(64),
        *draw.sample(range(64, 8 * header), 400),
        *draw.sample(range(8 * header, 8 * len(content)), 60),
    ]
    for place in places:
        damaged = bytearray(content)
        damaged[place // 8] ^= 1 << place % 8
        path.write_bytes(damaged)
        refused(path, parts)
    path.write_bytes(content)
    training.load_checkpoint(path, **dict(zip(("model", "optimizer", "loader"), parts, strict=True)))


def header_of(header, size=0):
    encoded = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(encoded).to_bytes(8, "little") + encoded + bytes(size)


def claim(dtype, shape, end):
    metadata = {"format": "minidl checkpoint", "version": "1", "state": "{}", "crc32": "00000000"}
    return header_of({"__metadata__": metadata, "a": {"dtype": dtype, "shape": shape, "data_offsets": [0, end]}}, 8)


@pytest.mark.parametrize(
    "content",
    [
        (2**63 - 1).to_bytes(8, "little") + b"{}",
        (10**12).to_bytes(8, "little") + b"{}",
        claim("F32", [10**13], 4 * 10**13),
        claim("F32", [2**62, 2**62], 8),
        claim("F32", [2**40], 8),
        claim("F64", [-1], 8),
        claim("BF16", [4], 8),
        claim("F8_E4M3", [8], 8),
        claim("NONE", [8], 8),
        claim("F32", [2], 8),  # all is well but the checksum
        header_of(b'{"a":' * 50_000),
        header_of({"__metadata__": "text"}),
        header_of({"__metadata__": {"format": 1}}),
        header_of([]),
        header_of({}),
        b"PK\x03\x04 a zip file, such as PyTorch's",
        b"\x89PNG\r\n\x1a\n" + bytes(100),
        b"text",
        b"",
    ],
    ids=lambda content: repr(content[:24]),
)
def test_foreign_and_hostile_files_are_refused_without_asking_for_memory(tmp_path, rng, content):
    path = tmp_path / "foreign"
    path.write_bytes(content)
    parts = everything(rng)
    tracemalloc.start()
    try:
        refused(path, parts)
        assert tracemalloc.get_traced_memory()[1] < 10**6 + 10 * len(content)
    finally:
        tracemalloc.stop()


def test_the_fault_is_said(tmp_path, rng):
    path, parts = tmp_path / "foreign", everything(rng)
    save_file({"weight": np.zeros(3)}, path)
    assert "its metadata do not say 'minidl checkpoint'" in refused(path, parts)
    save_file({"weight": np.zeros(3)}, path, {"format": "minidl checkpoint", "version": "2"})
    assert "it is of version 2, this minidl reads version 1" in refused(path, parts)
    path.unlink()
    path.mkdir()
    refused(path, parts)
    with pytest.raises(FileNotFoundError, match="load_checkpoint: .*missing does not exist"):
        training.load_checkpoint(tmp_path / "missing")


@pytest.mark.parametrize(
    "state", ["[" * 100_000, "{", "[]", "null", '{"model": {"__array__": "b"}}', '{"model": 1}', "{}"]
)
def test_a_state_that_is_none_is_refused_though_its_checksum_is_right(tmp_path, rng, state):
    path, parts = tmp_path / "foreign", everything(rng)
    metadata = {"format": "minidl checkpoint", "version": "1", "minidl": "0", "state": state}
    save_file({}, path, metadata | {"crc32": container._checksum(metadata, {})})
    before = snapshot(*parts)
    with pytest.raises(ValueError, match=f"load_checkpoint: .*{re.escape(str(path))}"):
        training.load_checkpoint(path, model=parts[0], optimizer=parts[1])
    assert same(snapshot(*parts), before)


# ---------------------------------------------------------------- a disk that fails


def failing(code):
    def fail(*arguments, **settings):
        raise OSError(code, os.strerror(code))

    return fail


@pytest.mark.parametrize(
    ("function", "code"), [("fsync", errno.ENOSPC), ("fsync", errno.EIO), ("replace", errno.EACCES)]
)
def test_if_the_disk_fails_the_old_file_is_still_there(checkpoint, monkeypatch, function, code):
    path, content, (model, _, _) = checkpoint
    monkeypatch.setattr(os, function, failing(code))
    with pytest.raises(OSError, match=f"{re.escape(str(path))} cannot be written: {os.strerror(code)}"):
        training.save_checkpoint(path, model=model)
    monkeypatch.undo()
    assert path.read_bytes() == content
    assert os.listdir(path.parent) == [path.name]


def test_if_the_disk_is_full_in_the_middle_of_the_file_the_old_one_is_still_there(checkpoint):
    path, content, (model, _, _) = checkpoint
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))  # the write fails where the file gets longer
    try:
        with pytest.raises(OSError, match=f"save_checkpoint: {re.escape(str(path))} cannot be written: File too large"):
            training.save_checkpoint(path, model=model)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == content
    assert os.listdir(path.parent) == [path.name]


def test_a_folder_that_is_missing_or_not_to_be_written_to_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    for folder, kind, what in (
        ("missing", FileNotFoundError, "does not exist"),
        ("file", NotADirectoryError, "is none"),
    ):
        path = tmp_path / folder / "run"
        message = f"save_checkpoint: {path} cannot be written: the folder {path.parent} {what}"
        with pytest.raises(kind, match=re.escape(message)):
            training.save_checkpoint(path, model=nn.Dense(2, 2))


def test_a_folder_without_permission_is_named(checkpoint):
    path, content, (model, _, _) = checkpoint
    path.parent.chmod(0o500)
    user = os.geteuid()
    try:
        if user == 0:
            os.seteuid(65534)  # root may write everywhere
        with pytest.raises(PermissionError, match=f"{re.escape(str(path))} cannot be written: Permission") as caught:
            training.save_checkpoint(path, model=model)
        assert caught.value.errno == errno.EACCES
    finally:
        os.seteuid(user)
        path.parent.chmod(0o700)
    assert path.read_bytes() == content


def test_saving_takes_one_copy_of_the_arrays(tmp_path):
    model = nn.Dense(1000, 1000)  # 4 MB
    optimizer = optim.Adam(model)  # and twice that
    tracemalloc.start()
    try:
        training.save_checkpoint(tmp_path / "run", model=model, optimizer=optimizer)
        assert tracemalloc.get_traced_memory()[1] < 1.05 * 3 * 4_004_000
    finally:
        tracemalloc.stop()

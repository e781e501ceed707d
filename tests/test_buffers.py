"""Memory that is used again: never while anybody can still see it, and always afterwards."""

from __future__ import annotations

import ctypes
import gc
import pickle
import sys
import threading
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import minidl as ml
from minidl import backend, buffers, nn, ops, optim
from minidl.buffers import ALIGNMENT, LARGE, Buffers

SHAPE = (100, 100)


def one(pool, shape=SHAPE, dtype=np.float32):
    return pool.empty(shape, dtype)


def address(array):
    return array.__array_interface__["data"][0]


def count(pool):
    return sum(map(len, pool._of_size.values()))


# ---------------------------------------------------------------- arrays


@given(
    shape=st.lists(st.integers(0, 60), max_size=4).map(tuple),
    dtype=st.sampled_from(["?", "i1", "f2", "f4", "f8", "g", "c16", ">f8", "U3", "M8[s]", [("a", "f4"), ("b", "i2")]]),
)
def test_an_array_has_the_shape_and_dtype_that_were_asked_for(shape, dtype):
    x = Buffers().empty(shape, dtype)
    assert (x.shape, x.dtype) == (shape, np.dtype(dtype))
    assert type(x) is np.ndarray
    assert x.flags.c_contiguous
    assert x.flags.writeable
    if x.nbytes >= LARGE:
        assert address(x) % ALIGNMENT == 0


def test_sizes_may_be_numpy_s_integers():
    assert one(Buffers(), (np.int32(2**16), np.int32(1), np.int64(3))).shape == (2**16, 1, 3)


def test_arrays_of_objects_are_numpy_s_because_arbitrary_bytes_are_no_objects():
    pool = Buffers()
    one(pool, (80000,), np.uint8).fill(1)
    assert one(pool, (10000,), object)[0] is None


def test_a_shape_that_cannot_be_raises_and_leaves_everything_in_order():
    pool = Buffers()
    with pytest.raises(ValueError, match="negative"):
        one(pool, (-100, -100))
    assert one(pool).shape == SHAPE


def test_other_kinds_of_arrays_are_asked_for_their_own():
    class Image(np.ndarray):
        pass

    like = np.zeros(3).view(Image)
    assert type(buffers.empty((200, 200), like)) is Image
    assert buffers.empty((200, 200), np.zeros(1, np.float32)).dtype == np.float32
    assert buffers.empty((200, 200), np.zeros(1), bool).dtype == bool


@given(st.integers(LARGE, 2**40))
def test_rounding_wastes_at_most_an_eighth(size):
    rounded = buffers._rounded(size)
    assert size <= rounded <= size * 1.125
    assert buffers._rounded(rounded) == rounded


# ---------------------------------------------------------------- lives

VIEWS = {
    "the array": lambda x: x,
    "slice": lambda x: x[1:3, ::2],
    "reshape": lambda x: x.reshape(-1),
    "transpose": lambda x: x.T,
    "a view of a view": lambda x: x[1:].reshape(-1)[5:].view(np.uint8),
    "as_strided": lambda x: np.lib.stride_tricks.as_strided(x, (50, 3, 3), (400, 4, 4)),
    "sliding windows": lambda x: np.lib.stride_tricks.sliding_window_view(x, (3, 3)),
    "broadcast": lambda x: np.broadcast_to(x, (2, *SHAPE)),
    "frombuffer": lambda x: np.frombuffer(x, np.uint8),
    "memoryview": lambda x: memoryview(x)[2:],
    "ctypes": lambda x: (ctypes.c_char * x.nbytes).from_buffer(x),
    "a pointer of ctypes": lambda x: x.ctypes.data_as(ctypes.c_void_p),
    "diagonal": np.diagonal,
    "iterator": lambda x: x.flat,
    "nditer": lambda x: np.nditer(x),
    "a picked field": lambda x: x.view("f4,f4")["f0"],
    "ndarray": lambda x: np.ndarray((5,), np.uint8, x, 40),
    "subclass": lambda x: x.view(np.recarray),
    "buffer of a pickle": lambda x: pickle.PickleBuffer(x),
    "dlpack": lambda x: np.from_dlpack(x),
    "frozen": lambda x: backend.protected(backend.lock(x)),
    "Tensor": lambda x: ml.Tensor(backend.lock(x)),
    "torch": lambda x: sys.modules["torch"].from_numpy(x)[2:],
}


@pytest.mark.parametrize("name", VIEWS)
def test_memory_is_used_again_once_the_last_view_is_gone_and_not_before(name):
    if name == "torch":
        pytest.importorskip("torch", reason="needs the extra 'oracle': pip install '.[oracle]'")
    pool = Buffers()
    x = one(pool)
    place = address(x)
    view = VIEWS[name](x)
    del x
    gc.collect()
    assert pool.unused() == 0
    other = one(pool)
    assert address(other) != place
    del view
    gc.collect()
    assert address(one(pool)) == place
    assert count(pool) == 2


def test_a_copy_lets_the_memory_go():
    pool = Buffers()
    x = one(pool)
    x.fill(3)
    copies = [x.copy(), pickle.loads(pickle.dumps(x)), x.tolist(), x.astype(float), x[[0, 1]]]
    place = address(x)
    del x
    again = one(pool)
    again.fill(7)
    assert address(again) == place
    assert all(np.all(np.asarray(copy) == 3) for copy in copies)


class Life:
    """An array or a view, and the value that its memory must keep."""

    def __init__(self, array, root, value):
        self.array, self.root, self.value = array, root, value


@given(st.data())
def test_no_two_living_arrays_share_memory(data):
    pool = Buffers(idle=data.draw(st.sampled_from([0, 2**17, 2**30])))
    lives: list[Life] = []
    for value in range(data.draw(st.integers(1, 60))):
        action = data.draw(st.sampled_from(["make", "make", "view", "drop", "forget"]))
        if action == "make":
            array = one(pool, (data.draw(st.sampled_from([4096, 4100, 5000, 20000])),))
            array.fill(value)
            lives.append(Life(array, value, value))
        elif action == "view" and lives:
            life = data.draw(st.sampled_from(lives))
            start = data.draw(st.integers(0, len(life.array) - 1))
            lives.append(Life(life.array[start:], life.root, life.value))
        elif action == "drop" and lives:
            lives.pop(data.draw(st.integers(0, len(lives) - 1)))
        elif action == "forget":
            pool.forget()
        for i, life in enumerate(lives):
            assert (life.array == life.value).all()
            assert not any(np.shares_memory(life.array, other.array) for other in lives[:i] if other.root != life.root)


def test_many_threads_at_once_get_memory_of_their_own():
    pool, wrong = Buffers(idle=2**20), []

    def work(value):
        rng = np.random.default_rng(value)
        kept = []
        for i in range(400):
            array = one(pool, (int(rng.integers(4096, 4 * 4096)),))
            array.fill(value + i)
            kept.append((array[7:], value + i))
            if len(kept) > 8:
                view, expected = kept.pop(int(rng.integers(8)))
                if not (view == expected).all():
                    wrong.append(value)
            if i % 100 == 99:
                pool.forget()

    threads = [threading.Thread(target=work, args=(1000 * n,)) for n in range(8)]
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    finally:
        sys.setswitchinterval(before)
    assert not any(thread.is_alive() for thread in threads)
    assert not wrong


def test_the_count_of_references_does_not_depend_on_how_often_it_was_asked():
    """The interpreter rewrites code that runs often."""
    pool = Buffers()
    for _ in range(20000):
        one(pool)
    assert count(pool) == 1


def test_the_buffer_used_last_comes_first_because_it_is_in_the_cache():
    pool = Buffers()
    first, second = one(pool), one(pool)
    places = address(first), address(second)
    del first, second
    assert [address(one(pool)) for _ in range(3)] == [places[1]] * 3


# ---------------------------------------------------------------- what is read-only


def test_a_locked_array_is_frozen_and_stays_so():
    x = backend.lock(one(Buffers()))
    for array in (x, x[2:], x.T, x.reshape(-1)[::2]):
        assert backend.frozen(array)
        assert backend.protected(array) is array
        with pytest.raises(ValueError, match="WRITEABLE"):
            array.setflags(write=True)


def test_a_locked_view_of_an_array_that_can_be_written_to_is_not_frozen():
    x = one(Buffers())
    view = backend.lock(x[2:])
    assert view.base is x
    assert not backend.frozen(view)
    x.fill(1)
    tensor = ml.Tensor(view)
    x.fill(2)
    assert (tensor.data == 1).all()


def test_memory_of_a_locked_array_can_be_written_to_in_its_next_life():
    pool = Buffers()
    backend.lock(one(pool))
    one(pool).fill(1)
    assert count(pool) == 1


# ---------------------------------------------------------------- how much is kept


def test_idle_memory_is_limited_and_the_sizes_not_asked_for_longest_go_first():
    pool = Buffers(idle=250_000)
    small, large = (one(pool, (n,), np.uint8) for n in (64_000, 128_000))
    more = [one(pool, (64_000,), np.uint8) for _ in range(2)]
    del small, large, more
    assert pool.unused() == sum(size * len(buffers) for size, buffers in pool._of_size.items())
    before = pool.unused()
    assert before > 250_000
    kept = one(pool, (256_000,), np.uint8)
    assert pool.unused() <= 250_000
    assert buffers._rounded(128_000) not in pool._of_size  # the three of the other size came later
    assert len(pool._of_size[buffers._rounded(64_000)]) == 3
    del kept


def test_forgotten_memory_goes_back_to_the_system_unless_it_is_in_use():
    pool = Buffers()
    x = one(pool)
    x.fill(5)
    one(pool)
    pool.forget()
    assert pool.unused() == count(pool) == 0
    one(pool).fill(6)
    assert (x == 5).all()


def test_when_there_is_no_memory_what_lies_idle_is_given_back_first(monkeypatch):
    pool = Buffers()
    one(pool)
    real, asked = buffers._Buffer, []

    def none_left(*args):
        asked.append(pool.unused())
        if len(asked) == 1:
            raise MemoryError
        return real(*args)

    monkeypatch.setattr(buffers, "_Buffer", none_left)
    x = one(pool, (500, 500))
    assert x.shape == (500, 500)
    assert asked[0] > 0 == asked[1]
    monkeypatch.setattr(buffers, "_Buffer", lambda *args: (_ for _ in ()).throw(MemoryError))
    with pytest.raises(MemoryError):
        one(pool, (900, 900))
    monkeypatch.undo()
    assert one(pool, (900, 900)).shape == (900, 900)


# ---------------------------------------------------------------- training


def network():
    ml.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.Dropout(0.2), nn.AvgPool2d(2),
        nn.Flatten(), nn.Dense(32 * 16, 64), nn.ReLU(), nn.Dense(64, 10),
    )  # fmt: skip


def steps(model, optimizer, number, rng, batches=(32,)):
    losses = []
    for i in range(number):
        x = rng.standard_normal((batches[i % len(batches)], 16, 16, 3), dtype=np.float32)
        optimizer.zero_grad()
        loss = ops.cross_entropy(model(x), rng.integers(10, size=len(x)))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def plain(shape, like, dtype=None):
    return np.empty_like(like, dtype=dtype, shape=shape)


@pytest.mark.parametrize("make", [optim.Adam, lambda model: optim.Nesterov(model, lr=0.01, beta=0.9)])
def test_training_gives_the_same_bits_as_with_fresh_memory(make, monkeypatch):
    results = []
    for empty in (buffers.empty, plain):
        monkeypatch.setattr(buffers, "empty", empty)
        model = network()
        optimizer = make(model)
        losses = steps(model, optimizer, 12, np.random.default_rng(1), batches=(32, 32, 20))
        results.append((losses, optimizer.weights))
    assert results[0][0] == results[1][0]
    np.testing.assert_array_equal(results[0][1], results[1][1])


def test_memory_does_not_grow_with_the_number_of_steps(rng):
    model = network()
    optimizer = optim.HeavyBall(model, lr=0.01, beta=0.9)
    steps(model, optimizer, 20, rng, batches=(32, 32, 32, 20))
    pool = buffers._buffers
    before, buffers_before = resident(), count(pool)
    steps(model, optimizer, 60, rng, batches=(32, 32, 32, 20))
    assert count(pool) <= buffers_before + 2  # which threads work side by side is left to chance
    assert resident() < before + 2**23


def resident():
    """Return the bytes of this process that lie in memory."""
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * 4096
    except OSError:  # no Linux
        return 0


def test_what_a_user_holds_survives_further_training(rng):
    """Results, gradients, weights, features and the optimizer's state, kept over steps that use the memory again."""
    model = network()
    optimizer = optim.Adam(model)
    held = []
    for _ in range(6):
        x = ml.Tensor(rng.standard_normal((32, 16, 16, 3), dtype=np.float32), requires_grad=True)
        features = model[1](model[0](x))
        y = ops.relu(features)
        optimizer.zero_grad()
        (y * y).mean().backward()
        optimizer.step()
        held += [features.data, features.numpy()[1:, ::2], y.detach(), x.grad, x.grad[3:], model[0].weight.grad]
        held += [optimizer.weights, *(v for v in optimizer.state_dict().values() if isinstance(v, np.ndarray))]
        held += list(model.state_dict().values())
    arrays = [v.data if isinstance(v, ml.Tensor) else v for v in held]
    copies = [np.array(array) for array in arrays]
    steps(model, optimizer, 5, rng)
    for array, copy in zip(arrays, copies, strict=True):
        np.testing.assert_array_equal(array, copy)

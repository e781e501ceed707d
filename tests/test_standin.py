"""The stand-in for CuPy keeps CuPy's rules."""

from __future__ import annotations

import numpy as np
import pytest

import minidl as ml
from minidl import ops

import standin as stand_in


def test_arrays_of_the_two_libraries_do_not_mix(standin):
    x, y = standin.asarray(np.ones(3)), np.ones(3)
    for mix in (lambda: x + y, lambda: y + x, lambda: np.maximum(x, y), lambda: np.concatenate([x, y])):
        with pytest.raises(TypeError):
            mix()
    with pytest.raises(TypeError, match="Implicit conversion"):
        np.asarray(x)
    with pytest.raises(ValueError, match="non-scalar"):
        x[1:] = y[1:]
    assert type(x * 2.0 + np.float64(1)) is standin.ndarray


def test_reductions_and_single_elements_are_arrays(standin):
    x = standin.asarray(np.arange(6.0).reshape(2, 3))
    for y in (x.sum(), x.max(), np.sqrt(x).mean(), x[0, 1], x[0][1]):
        assert type(y) is standin.ndarray
        assert y.shape == ()


def test_views_share_memory_and_know_their_parent_and_results_do_not(standin):
    x = standin.asarray(np.arange(6.0).reshape(2, 3))
    assert x.base is None
    for view in (x[1], x.T, x.reshape(3, 2), x[:, ::2], x[0, 1], x[None]):
        assert view.base is x
    for fresh in (x.copy(), x + 1, x.sum(axis=0), x[[0, 1]], x.astype(np.float32), standin.ascontiguousarray(x.T)):
        assert fresh.base is None
        assert not np.shares_memory(fresh._array, x._array)
    x[0, 1] = 7
    assert x.reshape(-1)[1].item() == 7


def test_every_way_to_the_host_is_counted(standin):
    x = standin.asarray(1.0)
    stand_in.transfers.clear()
    x.get(), x.item(), float(x), int(x), bool(x), repr(x), f"{x}"
    assert stand_in.transfers["to host"] == 7
    standin.ones(2)[standin.asarray([True, False])]  # how many there are decides the shape
    assert stand_in.transfers["to host"] == 8


def test_there_are_no_names_but_cupys(standin):
    assert standin.maximum(standin.asarray([1.0]), 2).item() == 2
    with pytest.raises(AttributeError):
        standin.nditer  # noqa: B018
    with pytest.raises(AttributeError):
        standin.zeros(2).setflags(write=False)


def test_fresh_memory_is_poisoned(standin):
    assert np.isnan(standin.empty(3).get()).all()
    assert np.isnan(np.empty_like(standin.zeros(3)).get()).all()


def test_a_captured_graph_computes_when_it_is_launched_with_what_lies_there_then(standin):
    x, total = standin.asarray(np.ones(3)), standin.zeros(())
    stream = standin.cuda.Stream(non_blocking=True)
    with stream:
        stream.begin_capture()
        y = x * 2
        total[...] = y.sum()
        graph = stream.end_capture()
    assert total.item() == 0
    assert np.isnan(y.get()).all()
    for value in (1.0, 5.0):
        x[...] = value
        graph.launch()
        assert total.item() == 6 * value


def test_what_a_graph_cannot_hold_is_refused(standin):
    x = standin.asarray(np.ones((2, 2)))
    stream = standin.cuda.Stream(non_blocking=True)
    stream.begin_capture()
    for work in (x.get, lambda: standin.asarray(np.ones(2)), stream.synchronize):
        with pytest.raises(RuntimeError, match="when stream is capturing"):
            work()
    with pytest.raises(NotImplementedError, match="cuBLAS"):
        x @ x
    stream.end_capture()
    with pytest.raises(RuntimeError, match="default"):
        standin.cuda.Stream.null.begin_capture()


def test_an_op_without_memory_says_for_what_and_how_much_is_free(standin, monkeypatch):
    class OutOfMemoryError(standin.cuda.memory.OutOfMemoryError):
        __module__ = "cupy.cuda.memory"

    def refuse(*args):
        raise OutOfMemoryError("Out of memory allocating 5 bytes")

    monkeypatch.setattr("minidl.kernels.cuda.pool.average_forward", refuse)
    message = r"no memory on the GPU for the result of avg_pool2d of x \(1, 4, 4, 1\): Out of memory .* bytes are free"
    with pytest.raises(MemoryError, match=message):
        ops.avg_pool2d(ml.Tensor(np.ones((1, 4, 4, 1))), 2)

"""The next batch is made while the last one is used; nothing is left running, and no batch is another one."""

from __future__ import annotations

import contextvars
import gc
import os
import signal
import subprocess
import sys
import threading
import time
import traceback

import numpy as np
import pytest

from minidl import data
from minidl.backend import default_generator

X = np.arange(40.0, dtype=np.float32).reshape(20, 2)
Y = np.arange(20)


@pytest.fixture(autouse=True)
def _no_thread_is_left():
    before = set(threading.enumerate())
    yield
    assert not ended(before), "a thread outlives its batch"


def ended(before=()):
    """Return the threads that make batches, and have not ended in a while."""
    gc.collect()
    threads = [thread for thread in threading.enumerate() if thread not in before and "batch" in thread.name]
    for thread in threads:
        thread.join(timeout=10)
    return [thread for thread in threads if thread.is_alive()]


def noisy(x, generator):
    return x + generator.standard_normal(x.shape, dtype=np.float32)


def test_the_batches_are_the_same_to_the_last_bit():
    loaders = [data.Loader(X, Y, 6, seed=3, augment=noisy, prefetch=prefetch) for prefetch in (True, False)]
    for _ in range(2):
        for (x, y), (x_plain, y_plain) in zip(*loaders, strict=True):
            assert x.tobytes() == x_plain.tobytes()
            assert y.tobytes() == y_plain.tobytes()
    ahead, plain = ([x.tobytes() for x, _ in loader.rest(2)] for loader in loaders)
    assert ahead == plain
    assert len(ahead) == 2


def test_the_next_batch_is_made_while_this_one_is_used():
    made = threading.Semaphore(0)
    threads = []

    def watch(x, generator):
        threads.append(threading.current_thread())
        made.release()
        return x

    passing = iter(data.Loader(X, Y, 5, augment=watch))
    next(passing)
    assert made.acquire(timeout=10)
    assert made.acquire(timeout=10), "the second one is made before it is asked for"
    assert not made.acquire(timeout=0.05), "and the third one is not"
    assert len(list(passing)) == 3
    assert threads[0] is threading.main_thread()
    assert all(thread.name.startswith("minidl-batch") for thread in threads[1:])


@pytest.mark.parametrize("settings", [{"prefetch": False, "augment": noisy}, {}])
def test_without_prefetching_or_changes_there_is_no_thread(settings, monkeypatch):
    monkeypatch.setattr(threading.Thread, "start", lambda thread: pytest.fail("a thread was started"))
    assert len(list(data.Loader(X, Y, 5, **settings))) == 4


def test_an_error_comes_with_its_batch_and_its_own_traceback():
    def fail_at_ten(x, generator):
        if 10 in x[:, 0] / 2:
            raise LookupError("ten")
        return x

    seen = []
    with pytest.raises(LookupError, match="^'?ten'?$") as caught:
        seen.extend(y.tolist() for _, y in data.Loader(X, Y, 5, shuffle=False, augment=fail_at_ten))
    assert seen == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]], "the batches before are given out"
    assert "fail_at_ten" in [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]


@pytest.mark.parametrize("how", ["break", "close", "error"])
def test_a_pass_that_is_left_leaves_no_thread(how):
    working = threading.Event()

    def slow(x, generator):
        if threading.current_thread() is not threading.main_thread():
            working.set()
            time.sleep(0.05)
        return x

    passing = iter(data.Loader(X, Y, 5, augment=slow))
    try:
        for _ in passing:
            assert working.wait(10)
            if how == "break":
                break
            if how == "error":
                raise KeyError(how)
            passing.close()
    except KeyError:
        pass
    del passing
    assert not ended()


def test_a_pass_may_be_forgotten_in_the_thread_that_makes_its_batch():
    """The garbage collector closes what is left of it in whatever thread it happens to run."""
    told = threading.Event()

    def collect(x, generator):
        if threading.current_thread() is not threading.main_thread():
            told.wait(10)
            gc.collect()
        return x

    passing = iter(data.Loader(X, Y, 5, augment=collect))
    next(passing)
    ring = [passing]
    ring.append(ring)
    gc.disable()
    try:
        del passing, ring
        told.set()
        assert not ended()
    finally:
        gc.enable()


def test_what_is_drawn_from_the_default_generator_is_the_same_too():
    def draw(x, generator):
        return x + default_generator().standard_normal(x.shape, dtype=np.float32)

    before = default_generator().bit_generator.state
    ahead, plain = ([x for x, _ in data.Loader(X, Y, 5, augment=draw, prefetch=p)] for p in (True, False))
    np.testing.assert_array_equal(ahead, plain)
    noise = np.array(ahead) - np.array([x for x, _ in data.Loader(X, Y, 5)])
    assert len(np.unique(noise.round(3))) > 35, "others in each batch"
    assert default_generator().bit_generator.state == before


@pytest.mark.parametrize("prefetch", [True, False])
def test_an_augmentation_that_stops_an_iteration_does_not_end_the_pass_in_silence(prefetch):
    def stop(x, generator):
        raise StopIteration

    with pytest.raises(RuntimeError, match="StopIteration"):
        list(data.Loader(X, Y, 5, augment=stop, prefetch=prefetch))


def test_ctrl_c_while_waiting_for_a_batch():
    def slow(x, generator):
        if threading.current_thread() is not threading.main_thread():
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
            time.sleep(0.2)
        return x

    with pytest.raises(KeyboardInterrupt):
        list(data.Loader(X, Y, 5, augment=slow))


def test_context_variables_hold_in_the_thread():
    variable = contextvars.ContextVar("variable", default="outside")
    seen = []
    variable.set("inside")
    with np.errstate(divide="raise"):
        loader = data.Loader(X, Y, 5, augment=lambda x, g: seen.append((variable.get(), np.geterr()["divide"])) or x)
        list(loader)
    assert seen == [("inside", "raise")] * 4


def test_without_more_threads_it_goes_on(monkeypatch):
    def refuse(thread):
        raise RuntimeError("can't start new thread")

    expected = [x.tobytes() for x, _ in data.Loader(X, Y, 6, augment=noisy)]
    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert [x.tobytes() for x, _ in data.Loader(X, Y, 6, augment=noisy)] == expected
    next(iter(data.Loader(X, Y, 6, augment=noisy)))  # and can be left


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_in_the_middle_of_a_pass_goes_on():
    expected = [x.tobytes() for x, _ in data.Loader(X, Y, 5, augment=noisy)]
    passing = iter(data.Loader(X, Y, 5, augment=noisy))
    first = next(passing)[0].tobytes()
    child = os.fork()
    if child == 0:  # no exception may get out of here
        status = 1
        try:
            status = int([first, *(x.tobytes() for x, _ in passing)] != expected)
        finally:
            os._exit(status)
    deadline = time.monotonic() + 20
    while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0) and time.monotonic() < deadline:
        time.sleep(0.01)
    if ended == (0, 0):
        os.kill(child, 9)
        os.waitpid(child, 0)
    assert ended[0] == child, "the child hangs"
    assert os.waitstatus_to_exitcode(ended[1]) == 0
    assert [first, *(x.tobytes() for x, _ in passing)] == expected


def test_a_program_that_ends_in_the_middle_of_a_pass_ends():
    program = """
import numpy as np
from minidl import data
passing = iter(data.Loader(np.zeros((9, 2), np.float32), np.arange(9), 3, augment=lambda x, generator: x))
next(passing)
print("last line")
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (run.returncode, run.stdout, run.stderr) == (0, "last line\n", "")

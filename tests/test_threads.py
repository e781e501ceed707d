"""Threads: what is shared among them, the threads of BLAS, and the ways in which a program may begin, break and end."""

from __future__ import annotations

import concurrent.futures
import contextlib
import contextvars
import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import warnings
import weakref

import numpy as np
import pytest
import threadpoolctl

import minidl as ml
from minidl import threads
from minidl.threads import parts, share, single_blas_thread


@pytest.fixture(params=[1, 2, 3, 8])
def count(request):
    ml.set_threads(request.param)
    yield request.param
    ml.set_threads(None)


@pytest.fixture
def three():
    ml.set_threads(3)
    yield
    ml.set_threads(None)


def blas():
    return [library["num_threads"] for library in threadpoolctl.threadpool_info() if library["user_api"] == "blas"]


def program(text, *environment):
    """Run a program of its own and return what it prints; it fails if it hangs."""
    return run("-c", textwrap.dedent(text), environment=dict(environment))


def run(*arguments, environment=None):
    found = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **(environment or {})}
    command = [sys.executable, "-W", "ignore::DeprecationWarning", *arguments]  # a fork with idle threads is deprecated
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False, env=found)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


# ---------------------------------------------------------------- share


def test_results_come_in_the_order_of_the_pieces(count):
    def work(piece):
        time.sleep(0.002 * (piece % 3))
        return piece * piece

    assert share(work, range(20)) == [n * n for n in range(20)]
    assert share(work, []) == []
    assert share(work, [4]) == [16]
    assert share(work, (n for n in (1, 2))) == [1, 4]


def test_so_many_threads_work_at_once_and_the_caller_is_one_of_them(count):
    together, names = threading.Barrier(count), set()

    def work(_):
        names.add(threading.current_thread().name)
        together.wait(30)  # returns only when all have come

    share(work, range(count))
    assert threading.current_thread().name in names
    assert len(names) == count


def test_no_more_threads_work_than_are_asked_for(three):
    share(time.sleep, [0.01] * 8)  # so that they exist
    ml.set_threads(2)
    names = set()
    share(lambda _: (names.add(threading.get_ident()), time.sleep(0.001)), range(40))
    assert len(names) <= 2


def test_whoever_is_busy_is_not_waited_for(three):
    """All other threads sleep in another job: the caller does its own alone."""
    go, busy = threading.Event(), threading.Semaphore(0)

    def work(_):
        busy.release()
        go.wait(30)

    other = threading.Thread(target=share, args=(work, range(3)))
    other.start()
    for _ in range(3):
        assert busy.acquire(timeout=30)
    assert share(lambda n: n + 1, range(10)) == list(range(1, 11))
    go.set()
    other.join(30)
    assert not other.is_alive()


def test_the_caller_wakes_as_soon_as_the_last_piece_is_done(three):
    together, caller = threading.Barrier(3), threading.get_ident()

    def work(_):
        together.wait(30)
        if threading.get_ident() != caller:
            time.sleep(0.02)

    began = time.perf_counter()
    for _ in range(5):
        share(work, range(3))
    assert time.perf_counter() - began < 1  # where it looks only once a second, it takes 5


def test_share_inside_share(count):
    inner = lambda n: sum(share(lambda m: n * m, range(5)))
    assert share(inner, range(9)) == [10 * n for n in range(9)]


def test_many_callers_at_once(three):
    wrong = []

    def caller(seed):
        x = np.random.default_rng(seed).standard_normal((60, 60))
        for _ in range(40):
            with single_blas_thread():
                got = share(lambda s: x[s] @ x, parts(60, 7))
            if not np.allclose(np.concatenate(got), x @ x, rtol=1e-12, atol=1e-12):
                wrong.append(seed)

    before, interval = blas(), sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        callers = [threading.Thread(target=caller, args=(seed,)) for seed in range(10)]
        for thread in callers:
            thread.start()
        for thread in callers:
            thread.join(60)
    finally:
        sys.setswitchinterval(interval)
    assert not any(thread.is_alive() for thread in callers)
    assert not wrong
    assert blas() == before


def test_share_in_the_threads_of_others(three):
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda n: share(lambda m: n * m, range(6)), range(20), timeout=60))
    assert results == [[n * m for m in range(6)] for n in range(20)]


def test_contexts_reach_the_other_threads(three):
    together = threading.Barrier(3)
    variable = contextvars.ContextVar("variable", default=0)
    variable.set(7)

    def work(_):
        together.wait(30)
        return variable.get(), np.geterr()["divide"], np.float64(1) / np.float64(0)

    with np.errstate(divide="ignore"), warnings.catch_warnings():
        warnings.simplefilter("error")
        results = share(work, range(3))
    assert results == [(7, "ignore", np.inf)] * 3
    with np.errstate(divide="raise"), pytest.raises(FloatingPointError):
        share(lambda _: (together.wait(30), np.float64(1) / np.float64(0)), range(3))


def test_what_a_piece_sets_in_its_context_stays_with_it(three):
    variable = contextvars.ContextVar("variable", default=0)
    together = threading.Barrier(3)
    caller = threading.get_ident()

    def work(n):
        before = variable.get()
        if threading.get_ident() != caller:
            variable.set(n + 1)
        together.wait(30)
        return before

    assert [share(work, range(3)) for _ in range(3)] == [[0, 0, 0]] * 3


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize("where", ["caller", "others"])
def test_an_error_is_raised_once_nobody_works_and_nothing_else_is_begun(three, where):
    together, done, begun = threading.Barrier(3), [], []
    caller = threading.get_ident()

    def work(n):
        begun.append(n)
        if n < 3:
            together.wait(30)
        if (threading.get_ident() == caller) == (where == "caller"):
            raise KeyError(n)
        time.sleep(0.2)
        done.append(n)

    with pytest.raises(KeyError):
        share(work, range(50))
    assert len(begun) <= 5  # the three, and what the others of them began before the error
    assert len(done) + (1 if where == "caller" else 2) >= len(begun)
    before = len(done)
    time.sleep(0.3)
    assert len(done) == before
    assert share(abs, [-1, -2, -3]) == [1, 2, 3]


def test_the_error_shows_where_it_came_from(three):
    def guilty(_):
        raise SystemExit(3)

    with pytest.raises(SystemExit) as caught:
        share(guilty, range(4))
    assert "guilty" in [entry.name for entry in caught.traceback]


def test_an_interrupt_while_waiting_waits_for_the_others_and_begins_nothing(three):
    caller, begun, ended = threading.get_ident(), [], []
    both = threading.Barrier(3)

    def work(n):
        begun.append(n)
        both.wait(30)
        if threading.get_ident() == caller:
            threading.Timer(0.1, signal.pthread_kill, [caller, signal.SIGINT]).start()
            return
        time.sleep(0.4)
        ended.append(n)

    with pytest.raises(KeyboardInterrupt):
        share(work, range(3))
    assert sorted(begun) == [0, 1, 2]
    assert len(ended) == 2


def test_no_thread_keeps_the_arrays_of_a_job_that_is_done(three):
    """Here all were too busy to help, and will find the job later."""

    class Array:
        pass

    go, busy = threading.Event(), threading.Semaphore(0)
    other = threading.Thread(target=share, args=(lambda _: (busy.release(), go.wait(30)), range(3)))
    other.start()
    for _ in range(3):
        assert busy.acquire(timeout=30)
    kept = []
    gc.disable()
    try:
        array = Array()
        kept.append(weakref.ref(array))
        result = share(lambda _, array=array: Array(), range(4))
        kept += map(weakref.ref, result)
        del array, result

        assert [ref() for ref in kept] == [None] * 5
    finally:
        gc.enable()
        go.set()
        other.join(30)


def test_an_error_keeps_no_arrays_once_it_was_handled(three):
    x = np.zeros(10)
    ref = weakref.ref(x)

    def work(n, x):
        raise KeyError(n)

    gc.disable()  # so that a cycle of references would show
    try:
        with contextlib.suppress(KeyError):
            share(lambda n, x=x: work(n, x), range(4))
        del x
        assert ref() is None
    finally:
        gc.enable()


def test_idle_threads_keep_nothing_and_use_no_time(three):
    x = np.zeros(10)
    ref = weakref.ref(x)
    share(lambda _, x=x: time.sleep(0.01), range(3))
    del x
    assert ref() is None
    before = time.process_time()
    time.sleep(0.2)
    assert time.process_time() - before < 0.1


# ---------------------------------------------------------------- how many


@pytest.mark.parametrize("wrong", [1.5, "two", [2], np.array([1, 2])])
def test_a_count_that_is_no_integer_is_refused(wrong):
    with pytest.raises(TypeError, match="set_threads: count is"):
        ml.set_threads(wrong)


@pytest.mark.parametrize("wrong", [0, -1])
def test_a_count_below_one_is_refused(wrong):
    with pytest.raises(ValueError, match=f"set_threads: count is {wrong}, expected at least 1"):
        ml.set_threads(wrong)


def test_set_threads_takes_numpy_s_integers_and_none():
    ml.set_threads(np.int64(5))
    assert ml.get_threads() == 5
    ml.set_threads(None)
    assert ml.get_threads() == max(blas())


def test_by_default_the_count_follows_threadpoolctl():
    for limit in (1, 2):
        with threadpoolctl.threadpool_limits(limit, "blas"):
            assert ml.get_threads() == limit
            with single_blas_thread():
                assert ml.get_threads() == limit


@pytest.mark.parametrize("variable", ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"])
def test_by_default_the_count_follows_the_environment(variable):
    assert program("import minidl as ml; print(ml.get_threads())", (variable, "1")) == ["1"]


@pytest.mark.parametrize(("size", "least"), [(0, 5), (1, 5), (9, 5), (10, 5), (11, 5), (100, 1), (3, 1), (1000, 7)])
def test_parts_are_equal_and_cover_everything(count, size, least):
    pieces = parts(size, least)
    assert [i for piece in pieces for i in range(piece.start, piece.stop)] == list(range(size))
    sizes = [piece.stop - piece.start for piece in pieces]
    assert max(sizes) - min(sizes) <= 1
    assert len(pieces) <= count
    assert size < least or min(sizes) >= least


# ---------------------------------------------------------------- the threads of BLAS


def test_blas_uses_one_thread_inside_and_as_many_as_before_outside():
    before = blas()
    with single_blas_thread():
        assert set(blas()) == {1}
        with single_blas_thread():
            assert set(blas()) == {1}
        assert set(blas()) == {1}
    assert blas() == before
    with pytest.raises(KeyError), single_blas_thread():
        raise KeyError
    assert blas() == before


def test_the_first_context_that_opens_and_the_last_that_closes_may_be_of_any_thread():
    before = blas()

    def elsewhere(function):
        thread = threading.Thread(target=function)
        thread.start()
        thread.join(30)

    with threadpoolctl.threadpool_limits(2, "blas"), single_blas_thread():
        pass  # threadpoolctl now obeys this thread and no other
    opened, close, closed = threading.Event(), threading.Event(), threading.Event()

    def other():
        with single_blas_thread():
            opened.set()
            close.wait(30)
        closed.set()

    with single_blas_thread():
        elsewhere(lambda: threading.Thread(target=other, daemon=True).start())
        assert opened.wait(30)
    assert set(blas()) == {1}  # the other thread's is open
    close.set()
    assert closed.wait(30)
    assert blas() == before
    seen = []

    def third():
        with single_blas_thread():
            seen.extend(blas())

    elsewhere(third)
    assert set(seen) == {1}
    assert blas() == before


def test_an_interrupt_while_a_context_opens_is_mended_by_the_next_one(monkeypatch):
    before = blas()
    get, set_count = threads._libraries()[0]

    def interrupted(count):
        set_count(count)
        monkeypatch.undo()
        threads._blas.before = [(set_count, threads._blas.before[0][1])]
        raise KeyboardInterrupt

    monkeypatch.setattr(threads, "_libraries", lambda: [(get, interrupted)])
    with pytest.raises(KeyboardInterrupt), single_blas_thread():
        pass
    assert get() == 1
    with single_blas_thread():
        assert get() == 1
    assert blas() == before


# ---------------------------------------------------------------- processes

PREAMBLE = """
import multiprocessing, os, sys, threading, time
import numpy as np
import minidl as ml
from minidl import buffers, threads
from minidl.threads import share, single_blas_thread

x = np.ones((300, 300), np.float32)

def work(n):
    time.sleep(0.01)
    y = buffers.empty(x.shape, x)
    np.multiply(x, n, out=y)
    return float(y.sum())

def check():
    assert share(work, range(6)) == [90000.0 * n for n in range(6)]
    before = [get() for get, _ in threads._libraries()]
    with single_blas_thread():
        assert {get() for get, _ in threads._libraries()} == {1}
    assert [get() for get, _ in threads._libraries()] == before == [2] * len(before)

def in_child(function):
    child = os.fork()
    if child == 0:
        try:
            function()
        except BaseException as error:
            print(type(error).__name__, error, flush=True)
        finally:
            os._exit(0)
    os.waitpid(child, 0)

for _, set_count in threads._libraries():
    set_count(2)
ml.set_threads(3)
"""


def fork(text, *environment):
    if not hasattr(os, "fork"):
        pytest.skip("this system does not fork")
    return program(PREAMBLE + textwrap.dedent(text) + "\ncheck()\nprint('end')", *environment)


def test_a_child_shares_work_among_threads_of_its_own():
    assert fork("check(); in_child(check); in_child(lambda: in_child(check))") == ["end"]


def test_a_child_of_a_thread_inside_the_context():
    text = """
    with single_blas_thread():
        in_child(check)
        child = os.fork()
    if child == 0:
        try:
            check()
            print("child")
        finally:
            sys.stdout.flush()
            os._exit(0)
    os.waitpid(child, 0)
    """
    assert fork(text) == ["child", "end"]


def test_a_child_while_other_threads_are_inside_the_context_and_hold_locks():
    text = """
    stop = threading.Event()
    inside = threading.Event()

    def others():
        while not stop.is_set():
            with single_blas_thread():
                inside.set()
                share(lambda n: buffers.empty((200 + n, 200), x).fill(n), range(3))

    callers = [threading.Thread(target=others) for _ in range(3)]
    for caller in callers: caller.start()
    assert inside.wait(30)
    for _ in range(20): in_child(check)

    def holding(lock):
        held, go = threading.Event(), threading.Event()
        def hold():
            with lock:
                held.set()
                go.wait(30)
        threading.Thread(target=hold).start()
        held.wait(30)
        return go

    stop.set()
    for caller in callers: caller.join()
    locks = [holding(lock) for lock in (threads._pool.lock, threads._blas.lock, buffers._buffers._lock)]
    in_child(check)
    for go in locks: go.set()
    """
    assert fork(text) == ["end"]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_multiprocessing(method, tmp_path):
    script = tmp_path / "main.py"
    body = f"""
    def train(n):
        check()
        return n

    if __name__ == "__main__":
        check()
        with multiprocessing.get_context("{method}").Pool(2) as pool:
            print(*pool.map(train, range(4)))
    """
    script.write_text(PREAMBLE + textwrap.dedent(body), encoding="utf-8")
    assert run(str(script)) == ["0", "1", "2", "3"]


def test_a_program_ends_at_once_however_idle_or_busy_its_threads():
    began = time.perf_counter()
    text = """
    import atexit, minidl as ml, time, threading
    from minidl.threads import share
    ml.set_threads(4)
    share(time.sleep, [0.01] * 4)
    threading.Thread(target=share, args=(time.sleep, [30] * 4), daemon=True).start()
    time.sleep(0.1)
    def last():
        ml.set_threads(9)
        print(*share(abs, [-1, -2, -3]))
    atexit.register(last)
    """
    assert program(text) == ["1", "2", "3"]
    assert time.perf_counter() - began < 20


def test_where_the_system_has_no_more_threads_the_caller_works_alone(monkeypatch):
    def none(self):
        raise RuntimeError("can't start new thread")

    pool = threads._Pool()
    pool.count = 4
    monkeypatch.setattr(threads, "_pool", pool)
    monkeypatch.setattr(threading.Thread, "start", none)
    assert share(abs, [-1, -2]) == [1, 2]

"""The benchmark for GPUs, on the stand-in for CuPy and with PyTorch on the CPU. Its times mean nothing here."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import minidl as ml
from minidl.kernels import numpy as plain

import devices
import nvrtc

ROOT = Path(__file__).parent.parent
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))  # last, so that an installed minidl is the one that is tested

from benchmarks.gpu import __main__ as command  # noqa: E402
from benchmarks.gpu import bench, convolutions, peer, picture, plan, smoothing, steps, tables, timing, updates  # noqa: E402

TINY = plan.Plan(
    copies=(100,),
    gemm=8,
    layers=(plan.Layer("a", (2, 6, 6, 3), 4), plan.Layer("b", (2, 6, 7, 20), 17, stride=2)),
    images=(2, 4, 4, 8),
    logits=(4, 5),
    products=((3, 4, 5),),
    classes=(10,),
    residuals=100,
    matrix_form=(3, 10),
    weights=50,
    networks=(("LeNet-5", 2, 2.0),),
    rounds=3,
    seconds=1e-5,
    step_seconds=1e-5,
    sets=2,
    minutes=60,
)
MLP = dataclasses.replace(steps.networks.MLP, arguments=(12, 5, 10), image=(12,))


class Event:
    """As CuPy's, on the clock of the host."""

    done = False

    def __init__(self, block=False, disable_timing=False, interprocess=False):
        pass

    def record(self, stream=None):
        self.time = time.perf_counter()

    def synchronize(self):
        pass


class OnHost(peer.Peer):
    """PyTorch on the CPU, which shares no memory with the stand-in."""

    def __init__(self):
        super().__init__("cpu")
        self.torch.set_num_threads(1)

    def tensor(self, array):
        return self.torch.from_numpy(array.get())


@pytest.fixture
def cupy(monkeypatch):
    """The stand-in, with events on the clock of the host."""
    devices.has_pytorch()
    with devices.standin() as cupy:
        monkeypatch.setattr(cupy.cuda, "Event", Event)
        elapsed = lambda began, ended: 1e3 * (ended.time - began.time)
        monkeypatch.setattr(cupy.cuda, "get_elapsed_time", elapsed, raising=False)
        monkeypatch.setattr(timing, "WARM_UP", 1)
        monkeypatch.setattr(bench.gc, "collect", lambda: None)  # it takes longest here, with PyTorch's modules
        monkeypatch.setattr(steps.networks, "IMAGES", 4)
        monkeypatch.setitem(steps.NETWORKS, "LeNet-5", MLP)
        yield cupy


@pytest.fixture
def tiny(cupy):
    return bench.Bench(TINY, None)


# ---------------------------------------------------------------- all of it


@pytest.mark.parametrize("with_pytorch", [pytest.param(True, marks=pytest.mark.slow), False])
def test_every_section_is_measured_and_written(cupy, with_pytorch, request, tmp_path, capsys):
    other = None
    if with_pytorch:
        request.getfixturevalue("torch")
        other = OnHost()
    measurement = command.measure(TINY, other, "" if other else "PyTorch is not installed", tmp_path)
    rows = {section.heading: own for section, own in measurement.sections}
    assert list(rows) == [section.heading for section in command.SECTIONS]
    failed = {row["case"]: row["failed"] for own in rows.values() for row in own if "failed" in row}
    assert set(failed) <= {"LeNet-5, batch 2, PyTorch's CUDA graph"}
    beside = [row for own in rows.values() for row in own if "theirs" in row]
    assert all(math.isfinite(row["speed"]) for row in beside)
    without = {row["case"].split(",")[0] for own in list(rows.values())[1:] for row in own if "theirs" not in row}
    if with_pytorch:
        assert without - set(failed) <= {"smoothing", "LeNet-5"}
    else:
        assert {row["case"] for row in beside} == {"smoothing of 3 samples, M = 10, beside the matrix form"}
    assert [path.suffix for path in sorted(tmp_path.iterdir())] == [".json", ".md", ".png"]
    text = next(tmp_path.glob("*.md")).read_text(encoding="utf-8")
    assert "| case | minidl | PyTorch | speed | of the floor | error | target | reached |" in text
    assert ("PyTorch: none: PyTorch is not installed; minidl alone" in text) != with_pytorch
    assert "- GPU: stand-in" in text
    assert json.loads(next(tmp_path.glob("*.json")).read_text(encoding="utf-8"))["sections"]
    assert "a, 3×3, 3 → 4, 2×6×6: forward: " in capsys.readouterr().out


# ---------------------------------------------------------------- the parts of it


class Fake:
    """A device and a clock: a call takes `work` seconds of the device and `host` seconds of Python."""

    def __init__(self, monkeypatch, cupy):
        self.now, self.device = 0.0, 0.0
        fake = self

        class Event:
            def record(self, stream=None):
                fake.device = max(fake.device, fake.now)
                self.time = fake.device

            @property
            def done(self):
                return fake.now > self.time

            def synchronize(self):
                fake.now = max(fake.now, self.time)

        monkeypatch.setattr(cupy.cuda, "Event", Event)
        monkeypatch.setattr(timing, "time", self)

    def perf_counter(self):
        return self.now

    def call(self, work, host, name=None, log=None):
        def call(i):
            if log is not None:
                log.append((name, i))
            self.now += host
            self.device = max(self.device, self.now) + work

        return call


@pytest.fixture
def fake(cupy, monkeypatch):
    return Fake(monkeypatch, cupy)


@pytest.fixture
def stopwatch(fake, monkeypatch):
    stopwatch = timing.Stopwatch()
    waits = []

    def wait(grid, block, args):
        waits.append(float(args[0]) / 1e9)
        fake.device = max(fake.device, fake.now) + waits[-1]

    stopwatch._wait, stopwatch.waits = wait, waits
    stopwatch.synchronize = lambda: setattr(fake, "now", max(fake.now, fake.device))
    return stopwatch


def test_the_time_of_the_device_is_measured_however_long_python_takes(fake, stopwatch):
    calls = {"a": fake.call(5e-6, 50e-6), "b": fake.call(20e-6, 10e-6)}
    times = stopwatch.compare(calls, rounds=3, seconds=1e-3, sets=4)
    assert {name: own.median for name, own in times.items()} == pytest.approx({"a": 5e-6, "b": 20e-6})
    assert not any(own.starved for own in times.values())
    assert max(stopwatch.waits) < timing.LONGEST_WAIT


def test_blocks_come_in_turn_and_sets_of_inputs_too(fake, stopwatch):
    log = []
    calls = {name: fake.call(1e-4, 1e-6, name, log) for name in "ab"}
    stopwatch.compare(calls, rounds=2, seconds=3e-4, sets=3)
    assert "".join(name for name, _ in log[-12:]) == "aaabbbaaabbb"
    assert [i for _, i in log[-6:]] == [0, 1, 2, 0, 1, 2]


def test_a_device_that_waits_for_python_is_told(fake, stopwatch):
    waiting = fake.call(1e-6, 1e-3)

    def copies_to_the_host(i):
        waiting(i)
        fake.now = max(fake.now, fake.device)

    times = stopwatch.compare({"a": copies_to_the_host}, rounds=3, seconds=1e-2, sets=1)
    assert times["a"].starved
    assert times["a"].median > 5e-4, "it is not taken for fast"


def test_steps_are_timed_by_the_host(fake, stopwatch):
    def run(count):
        for i in range(count):
            fake.call(1e-3, 3e-3)(i)

    times = stopwatch.steps({"x": run, "y": run}, rounds=3, seconds=0.1)
    assert times["x"].median == pytest.approx(3e-3, rel=0.2)


def case(tiny, error=0.0, limit=1.0, **settings):
    x = tiny.random(10)
    return bench.Case(lambda i: x * 2.0, lambda: error, limit, 80, **settings)


@pytest.mark.parametrize("error", [2.0, math.nan])
def test_what_is_wrong_is_not_timed(tiny, error, monkeypatch):
    monkeypatch.setattr(tiny.stopwatch, "compare", None)
    with pytest.raises(ArithmeticError, match="wrong: the error is (2|nan), expected at most 1; not timed"):
        tiny.measure(case(tiny, error))


def test_a_case_that_fails_stops_nothing(tiny, capsys):
    cases = lambda bench: [("bad", lambda: 1 / 0), ("wrong", lambda: case(tiny, 2.0)), ("good", lambda: case(tiny))]
    measurement = command.Measurement(tiny)
    measurement.run(command.Section("S", "note", cases))
    [(_, rows)] = measurement.sections
    assert [row.get("failed", "")[:17] for row in rows] == ["ZeroDivisionError", "ArithmeticError: ", ""]
    *_, table, failures = measurement.tables()
    assert [line[1][:12] for line in table.lines[:2]] == ["not measured"] * 2
    assert failures.lines[0] == ["bad", "ZeroDivisionError: division by zero"]
    assert "ZeroDivisionError: division by zero" in capsys.readouterr().out


def test_when_the_time_is_up_the_rest_is_left_out(cupy):
    late = bench.Bench(dataclasses.replace(TINY, minutes=-1), None)
    measurement = command.Measurement(late)
    measurement.run(command.SECTIONS[1])
    assert {row["failed"] for row in measurement.sections[0][1]} == {"not measured: the time was up"}


def test_cases_can_be_chosen(tiny):
    measurement = command.Measurement(tiny, ["backward"])
    for section in command.SECTIONS:
        if section.heading in ("Residual smoothing", "Convolutions in float32"):
            measurement.run(section)
    assert [[row["case"] for row in rows] for _, rows in measurement.sections] == [["smoothing, M = 10: backward"]]


def test_targets():
    times = {"minidl": timing.Times([2.0, 1.0, 4.0]), "slow": timing.Times([9.0] * 3), "fast": timing.Times([3.0] * 3)}
    row = bench.compared(times, bench.Target("speed", 0.7)) | {"case": "c", "error": 1e-7, "floor": 0.5}
    assert (row["ours"], row["how"], row["speed"], row["speed_range"]) == (2.0, "fast", 1.5, [0.75, 3.0])
    assert tables.line(row) == [
        *("c", "2 s [1 s, 4 s]", "3 s, fast", "1.50 [0.75, 3.00]", "25%", "1.0e-07"),
        *("0.7 × speed", "met, 2.14 of it"),
    ]
    row = bench.compared({"minidl": timing.Times([2.0], starved=True)}, bench.Target("copy", 0.8))
    row |= {"case": "c", "error": 0.0, "floor": 1.0, "reached": 0.5}
    assert tables.line(row) == ["c", "2 s† [2 s, 2 s]", "", "", "50%", "0.0e+00", "80% of copying", "short, 0.62 of it"]


def test_the_floor_is_the_longer_of_moving_and_computing(tiny):
    floors = bench.Floors(copy=100.0, float32=10.0, tf32=40.0)
    assert floors.seconds(case(tiny)) == 0.8
    assert floors.seconds(case(tiny, operations=40)) == 4.0
    assert floors.seconds(case(tiny, operations=40, tf32=True)) == 1.0
    assert math.isnan(bench.Floors().seconds(case(tiny)))


def test_inputs_are_random_and_sets_are_larger_than_the_cache(tiny):
    x, y = (tiny.random(100, 200).get() for _ in range(2))
    assert abs(x.mean()) < 0.02
    assert abs(x.std() - 1) < 0.02
    assert abs((x * y).mean()) < 0.03
    assert abs((x[:, 1:] * x[:, :-1]).mean()) < 0.03
    assert x.dtype == np.float32
    large = bench.Bench(dataclasses.replace(TINY, sets=48), None)
    assert large.sets(large.l2) == 4
    assert large.sets(2**40) == 1
    assert large.sets(1) == 48


def test_fresh_memory_is_poisoned_while_a_case_is_checked(cupy, monkeypatch):
    class Memory:
        def __init__(self, size):
            self.bytes = np.zeros(size, np.uint8)

        def memset(self, value, size):
            self.bytes[:size] = value

    class Pool:
        def malloc(self, size):
            return Memory(size)

    @contextlib.contextmanager
    def using(malloc):
        given.append(malloc(64))
        yield

    given = []
    monkeypatch.setattr(cupy.cuda, "MemoryPool", Pool)
    monkeypatch.setattr(cupy.cuda, "using_allocator", using)
    with timing.poisoned():
        assert np.isnan(given[0].bytes.view(np.float32)).all()
        assert np.isnan(given[0].bytes.view(np.float64)).all()


@pytest.mark.parametrize("layer", [*TINY.layers, plan.Layer("c", (2, 5, 4, 3), 2, size=5, stride=2)], ids=str)
@pytest.mark.parametrize("direction", convolutions.DIRECTIONS)
def test_the_reference_of_convolutions_is_that_of_the_cpu(layer, direction):
    rng = np.random.default_rng(0)
    x, w, g = (rng.standard_normal(shape) for shape in (layer.images, layer.kernel, layer.result))
    assert convolutions.error(layer, direction, x, w, g) < 1e-14  # on NumPy's arrays


def test_a_row_of_the_matrix_form_is_the_layer(rng):
    d, g = rng.standard_normal((2, 3, 7))
    r, by_d = smoothing.matrix_form(np, d, g)
    settings = smoothing.SCALE, smoothing.STEEPNESS, True
    np.testing.assert_allclose(r, plain.smoothing.forward(d, *settings), rtol=1e-12)
    np.testing.assert_allclose(by_d, plain.smoothing.gradient(g, d, *settings), rtol=1e-12)


def test_steps_that_go_another_way_are_not_timed(cupy, monkeypatch):
    class Wrong(ml.optim.HeavyBall):
        def __init__(self, model, lr, beta):
            super().__init__(model, 1.1 * lr if ml.device() == "gpu" else lr, beta)

    monkeypatch.setattr(ml.optim, "HeavyBall", Wrong)
    errors, failed = steps.check(steps.NETWORKS["LeNet-5"], 2)
    assert not errors
    assert all("wrong: the weights go another way" in reason for reason in failed.values())


def test_both_libraries_round_to_tf32_or_none(cupy, torch):
    other = OnHost()
    for tf32 in (True, False):
        with bench.precision(other, tf32):
            assert ml.backend.tf32() == torch.backends.cudnn.allow_tf32 == torch.backends.cuda.matmul.allow_tf32 == tf32
    assert not ml.backend.tf32()


def test_every_optimizer_of_the_plan_has_a_twin():
    assert set(plan.FULL.optimizers) == set(updates.TWINS)
    methods = [getattr(ml.optim, name) for name in ml.optim.__all__ if isinstance(getattr(ml.optim, name), type)]
    first_order = {method.__name__ for method in methods if getattr(method, "by_element", False)}
    assert first_order == set(updates.TWINS)


def test_the_picture_of_what_has_a_target(tmp_path):
    row = bench.compared({"minidl": timing.Times([2.0, 3.0])}, bench.Target("copy", 0.8)) | {
        "case": "c",
        "reached": 0.5,
    }
    facts = {"GPU": "an abacus", "date": "2026-01-02"}
    figure = picture.draw([("S", [row, {"case": "d", "failed": "x"}]), ("T", [row])], facts)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["c", "c"]
    picture.draw([], facts)


# ---------------------------------------------------------------- the command


def test_without_a_gpu_it_says_why(monkeypatch, tmp_path):
    monkeypatch.setattr(ml.backend, "gpu_status", lambda: ml.backend.GpuStatus(False, "there is none"))
    with pytest.raises(SystemExit, match="benchmarks.gpu: use_device: the GPU cannot be used: there is none"):
        command.main(["--out", str(tmp_path)])
    assert not list(tmp_path.iterdir())


def test_without_pytorch_it_says_so(monkeypatch):
    monkeypatch.setattr(peer.importlib.util, "find_spec", lambda name: None)
    assert peer.find() == (None, "PyTorch is not installed")


@pytest.mark.parametrize(
    ("arguments", "folder", "minutes"), [([], "benchmarks/results", 8.0), (["--quick", "--minutes", "0.5"], None, 0.5)]
)
def test_what_is_asked_for(cupy, monkeypatch, arguments, folder, minutes, tmp_path):
    asked = []
    monkeypatch.setattr(command, "measure", lambda *given, **named: asked.append((given, named)))
    monkeypatch.chdir(tmp_path)
    command.main(arguments)
    [((chosen, *_), named)] = asked
    assert (named["folder"], chosen.minutes) == (folder and Path(folder), minutes)
    assert (chosen.layers == plan.QUICK.layers) == bool(arguments)


@pytest.mark.skipif(nvrtc.library() is None, reason="NVRTC is not installed: pip install nvidia-cuda-nvrtc")
def test_the_kernel_that_waits_compiles():
    succeeded, log = nvrtc.compiled(timing.WAIT, ["-arch=sm_90", "-std=c++17"])
    assert succeeded, log

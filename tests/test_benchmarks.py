"""The logic of the benchmarks. How fast anything is, is measured by them and asserted nowhere."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT))  # last, so that an installed minidl is the one that is tested

from benchmarks import cpu, environments, networks, paired, picture, report, smoothing, tables  # noqa: E402
from benchmarks.peers import PEERS, Peer, __main__, installing  # noqa: E402

# ---------------------------------------------------------------- the harness


class Clock:
    """Time that passes only when somebody says so."""

    now = 0.0

    def perf_counter(self):
        return self.now

    process_time = perf_counter

    def sleep(self, seconds):
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(paired, "time", clock)
    monkeypatch.setattr(paired, "_seconds_of_others", lambda: 0.0)
    return clock


def test_ratios_are_ours_over_theirs_in_turn(clock):
    calls = []

    def function(name, seconds):
        calls.append(name)
        clock.now += seconds

    row = paired.compare(
        lambda: function("a", 0.4), lambda: function("b", 0.1), pairs=4, block_seconds=0.17, per_call=10
    )
    assert row["ratios"] == pytest.approx([4] * 4)
    assert (row["median"], row["min"], row["max"]) == pytest.approx((4, 4, 4))
    assert (row["ours"], row["theirs"]) == pytest.approx((0.04, 0.01))
    assert "".join(calls) == "abb" + 4 * "aabbb"  # the warm-up; then each settles with a call before it is timed


def test_a_budget_cuts_the_pairs_but_not_below_three(clock):
    def slow():
        clock.now += 2

    assert len(paired.compare(slow, slow, pairs=9, block_seconds=0.1, budget=1)["ratios"]) == paired.LEAST_PAIRS == 3
    assert len(paired.compare(slow, slow, pairs=9, block_seconds=0.1, budget=20)["ratios"]) == 5  # of 4.3 s each
    assert len(paired.compare(slow, slow, pairs=2, block_seconds=0.1, budget=1)["ratios"]) == 2
    began = clock.now
    paired.compare(slow, slow, pairs=1, block_seconds=0.1)
    assert clock.now - began == pytest.approx(2 * (2 + 2 + paired.PAUSE))  # slow calls settle by themselves


# ---------------------------------------------------------------- environments


def test_each_environment_sets_and_unsets_its_variables():
    here = {"PATH": "/bin", "OPENBLAS_CORETYPE": "Zen", "MALLOC_TOP_PAD_": "7", "OMP_NUM_THREADS": "1"}
    kept = {"PATH": "/bin", "OMP_NUM_THREADS": "1"}
    haswell = {"OPENBLAS_CORETYPE": "Haswell", "OPENBLAS_L2_SIZE": "512"}
    assert environments.variables("S", here) == kept
    assert environments.variables("H", here) == kept | haswell
    tuned = environments.variables("S-tuned", here)
    assert {name for name in tuned if name.startswith("MALLOC")} == {
        *("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_")
    }
    assert environments.variables("H-tuned", here) == tuned | haswell
    assert set(picture.MARKS) == set(environments.ENVIRONMENTS)
    assert all(name in report.VARIABLES for own in environments.ENVIRONMENTS.values() for name in own)


@pytest.fixture
def worker(tmp_path, monkeypatch):
    """Put a program of the test's in the worker's place."""
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "__init__.py").touch()
    monkeypatch.setattr(environments, "ROOT", tmp_path)
    return lambda code: (tmp_path / "benchmarks" / "worker.py").write_text("import json, os, sys\n" + code)


def test_a_worker_runs_in_its_environment_and_its_answers_come_back(worker, monkeypatch):
    worker("print(sys.argv[1])\nprint(json.dumps([os.environ.get('OPENBLAS_L2_SIZE'), os.environ.get('OF_MINE')]))")
    monkeypatch.setenv("OPENBLAS_L2_SIZE", "77")
    monkeypatch.setenv("OF_MINE", "1")
    task = {"do": "time", "cases": ["conv2d 3×3"]}
    assert list(environments.answers("S", task)) == [task, [None, "1"]]
    assert list(environments.answers("H-tuned", task)) == [task, ["512", "1"]]


def test_a_worker_that_fails_is_an_error_after_its_answers(worker):
    worker("print(1, flush=True)\nsys.exit(3)")
    answers = environments.answers("S", {})
    assert next(answers) == 1
    with pytest.raises(RuntimeError, match="environment S failed with status 3"):
        next(answers)


# ---------------------------------------------------------------- what is kept


def row(case, environment="S", ratio=1.0):
    return {
        "case": case,
        "environment": environment,
        "ours": 0.002 * ratio,
        "theirs": 0.002,
        "others": 0.04,
        "median": ratio,
        "min": 0.8 * ratio,
        "max": 1.25 * ratio,
        "ratios": [ratio],
    }


def test_the_table_has_a_column_for_each_environment():
    table = tables.ratios([row("a", "S", 0.5), row("b", "S"), row("a", "H", 2)])
    assert table.columns == ["case", "minidl, S", "PyTorch, S", "S", "H", "others"]
    assert table.lines == [
        ["a", "1 ms", "2 ms", "0.50 [0.40, 0.62]", "2.00 [1.60, 2.50]", "0.0"],
        ["b", "2 ms", "2 ms", "1.00 [0.80, 1.25]", "", "0.0"],
    ]


@pytest.mark.parametrize(
    ("seconds", "text"), [(2.5e-6, "2.5 µs"), (0.00123456, "1.23 ms"), (0.999, "999 ms"), (0.9999, "1 s"), (12, "12 s")]
)
def test_durations(seconds, text):
    assert report.duration(seconds) == text


def test_facts_that_differ_are_told_apart():
    facts = {"S": {"date": "d", "X": "unset"}, "H": {"date": "d", "X": "7"}, "T": {"date": "d", "X": "unset"}}
    assert report.compared(facts) == {"date": "d", "X": "unset", "in S": "as above", "in H": "X 7", "in T": "the same"}
    assert report.compared({"S": {"date": "d"}}) == {"date": "d"}


def test_files_of_a_report(tmp_path):
    table = report.Table("Heading", "A note.", ("what", "value"), [("α", "1"), ("β", "2")])
    facts = {"date": "2026-01-02", "processor": "P"}
    markdown, everything = report.write(tmp_path / "x", "Title", [table, table], facts, {"rows": [1.5]})
    assert [markdown.name, everything.name] == ["x-2026-01-02.md", "x-2026-01-02.json"]
    text = markdown.read_text(encoding="utf-8")
    assert text.startswith("# Title\n\n## Heading\n\nA note.\n\n| what | value |\n| --- | ---: |\n| α | 1 |\n")
    assert text.endswith("- date: 2026-01-02\n- processor: P\n")
    assert json.loads(everything.read_text(encoding="utf-8")) == {"environment": facts, "rows": [1.5]}
    assert len(list(tmp_path.iterdir())) == 2  # no temporary file is left


@pytest.mark.parametrize("kinds", [("ratios", "growth"), ("ratios",), ("growth",), ()])
def test_the_picture_of_what_there_is(kinds, tmp_path):
    rows = {
        "ratios": [row("a", "S", 0.5), row("a", "H-tuned", 30)],
        "growth": [row("growth, batch 8"), row("growth, batch 16")],
    }
    figure = picture.draw({kind: rows[kind] if kind in kinds else [] for kind in rows}, {"processor": "P", "date": "d"})
    assert len(figure.axes) == len(kinds)
    assert picture.save(figure, tmp_path / "x.png").stat().st_size > 1000


# ---------------------------------------------------------------- the command


@pytest.fixture
def measured(torch, monkeypatch):
    """Replace the workers; return the tasks that they got."""
    tasks = []

    def answers(environment, task):
        tasks.append((environment, task))
        if task["do"] == "facts":
            yield {"date": "2026-01-02", "processor": "P", "command": "", "thread pool": environment}
        elif task["do"] == "memory":
            yield {"ours": 12.3, "theirs": 45.6}[task["side"]]
        else:
            yield from (row(case) for case in task["cases"])

    monkeypatch.setattr(environments, "answers", answers)
    return tasks


def test_a_full_run_writes_table_json_and_picture(measured, tmp_path, capsys):
    cpu.main(["--only", "LeNet-5 step, batch 8", "growth, size", "relu", "--out", str(tmp_path / "new")])
    assert [path.name for path in sorted((tmp_path / "new").iterdir())] == [
        f"cpu-2026-01-02.{ending}" for ending in ("json", "md", "png")
    ]
    text = (tmp_path / "new" / "cpu-2026-01-02.md").read_text(encoding="utf-8")
    assert "| case | minidl, S | PyTorch, S | S | S-tuned | H | H-tuned | others |" in text
    assert "| LeNet-5 step, batch 8 | 12 | 46 | 0.27 |" in text
    assert "| size 64 | 2 ms | 2 ms | 1.00 [0.80, 1.25] |" in text
    assert "- in H: thread pool H" in text
    content = json.loads((tmp_path / "new" / "cpu-2026-01-02.json").read_text(encoding="utf-8"))
    assert {kind: len(content[kind]) for kind in ("ratios", "memory", "growth")} == {
        "ratios": 8,
        "memory": 1,
        "growth": 4,
    }
    assert [environment for environment, task in measured if task["do"] == "memory"] == ["S", "S"]
    assert "LeNet-5 step, batch 8" in capsys.readouterr().out


def test_a_quick_run_is_short_and_writes_nothing(measured, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cpu.main(["--quick"])
    (_, facts), (environment, task) = measured
    assert (facts["do"], environment, task["effort"]) == ("facts", "S", cpu.QUICK)
    assert {"LeNet-5 step, batch 128", "ResNet-20 step, batch 16", "relu"} < set(task["cases"])
    assert not any("DenseNet" in case or "batch 64" in case for case in task["cases"])
    assert not list(tmp_path.iterdir())


def test_environments_can_be_chosen(measured, tmp_path):
    cpu.main(["--only", "relu", "--environment", "H", "S-tuned", "--out", str(tmp_path)])
    assert [environment for environment, _ in measured] == ["H", "H", "S-tuned", "S-tuned"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "nonsense"], "--only nonsense: no case has this in its name; there are LeNet-5 step, batch 1,"),
        (["--environment", "X"], "argument --environment: invalid choice: 'X'"),
        (["--out", "{file}/x"], "--out: cannot write to the folder"),
    ],
)
def test_bad_arguments(measured, arguments, message, tmp_path, capsys):
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(SystemExit) as error:
        cpu.main([argument.format(file=file) for argument in arguments])
    assert error.value.code == 2
    assert message in capsys.readouterr().err
    assert not measured


def test_without_pytorch_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(cpu.importlib.util, "find_spec", lambda name: None)
    for main in cpu.main, __main__.main:
        with pytest.raises(SystemExit, match=r"PyTorch is not installed: pip install \"\.\[bench\]\""):
            main([])


# ---------------------------------------------------------------- the same work on both sides


@pytest.mark.parametrize(
    "name", ["LeNet-5 step, batch 8", "MLP 784-512-256-10 step, batch 128", "CIFAR CNN step, batch 64"]
)
def test_twins_go_the_same_way(torch, name):
    networks.check(name, networks.STEPS[name][0], batch=4)


@pytest.mark.parametrize("spoil", ["weights", "momentum", "rate", "network"])
def test_other_work_is_an_error(torch, monkeypatch, spoil):
    from benchmarks import twins

    if spoil == "weights":
        monkeypatch.setattr(networks.Network, "flattened", None, raising=False)
        network = networks.Network(networks.LENET5.model, "lenet5", (0.5,), (28, 28, 1))
    elif spoil == "momentum":
        network = networks.LENET5
        monkeypatch.setattr(networks.optim, "HeavyBall", lambda model, lr, beta: networks.optim.SGD(model, lr=lr))
    elif spoil == "rate":  # so low that only the weights tell
        network, heavy_ball = networks.LENET5, networks.optim.HeavyBall
        monkeypatch.setattr(networks, "RATE", 1e-5)
        monkeypatch.setattr(networks.optim, "HeavyBall", lambda model, lr, beta: heavy_ball(model, 1.03 * lr, beta))
    else:
        network = networks.LENET5
        twin = twins.lenet5
        monkeypatch.setattr(twins, "lenet5", lambda p: torch.nn.Sequential(*twin(p), torch.nn.ReLU()))
    with pytest.raises(RuntimeError, match="LeNet: minidl and PyTorch went different ways"):
        networks.check("LeNet", network, batch=4)


def test_an_op_with_another_gradient_is_an_error(torch):
    from benchmarks import cases

    cases.check("relu", *cases.op(cases.ops.relu, torch.relu, cases.normal(2, 3, 4, 5)))
    for twin in torch.nn.functional.softplus, lambda x: torch.relu(x).detach() + 0 * x:
        with pytest.raises(RuntimeError, match="relu: minidl and PyTorch computed different results"):
            cases.check("relu", *cases.op(cases.ops.relu, twin, cases.normal(2, 3, 4, 5)))


# ---------------------------------------------------------------- peers


@pytest.fixture
def scripts(tmp_path, monkeypatch):
    """Put scripts of the test's in the place of the libraries'; return how to write one."""
    (tmp_path / "serve.py").write_text((Path(__main__.__file__).parent / "serve.py").read_text(encoding="utf-8"))
    monkeypatch.setattr(__main__, "SCRIPTS", tmp_path)
    monkeypatch.setattr(__main__, "python_of", lambda peer, venvs: sys.executable)

    def write(name, step="labels.sum() / 1000"):
        code = f"from serve import serve\nprint('noise')\ndef build(*start):\n    return lambda x, labels: {step}\n"
        (tmp_path / name).write_text(code + "serve(build, 'numpy')\n")

    return write


@pytest.mark.slow
def test_peers_that_cannot_take_part_are_told_with_the_reason(scripts, tmp_path, monkeypatch, capsys):
    for name in "with_minidl.py", "with_pytorch.py", "fine.py":
        scripts(name)
    scripts("other.py", step="labels.sum()")
    scripts("broken.py", step="1 / 0")
    (tmp_path / "gone.py").write_text("import a_library_that_is_nowhere")
    names = ("fine", "other", "broken", "gone")
    monkeypatch.setattr(__main__, "PEERS", tuple(Peer(name, f"{name}.py", ()) for name in names))
    __main__.write_problem(tmp_path / "problem.npz")
    with __main__.contextlib.ExitStack() as stack:
        sides, missing = __main__.open_sides(tmp_path / "problem.npz", tmp_path, stack)
        assert [side.name for side in sides] == ["minidl", "PyTorch", "fine"]
        assert sides[2].versions["NumPy"] == np.__version__
        times = __main__.measure(sides, rounds=2)
    assert all(side.process.poll() is not None for side in sides)
    assert "its losses are" in missing["other"]
    assert missing["broken"] == "ZeroDivisionError: division by zero"
    assert missing["gone"] == "ModuleNotFoundError: No module named 'a_library_that_is_nowhere'"
    assert {name: len(own) for name, own in times.items()} == {"minidl": 2, "PyTorch": 2, "fine": 2}
    assert "fine: ready" in capsys.readouterr().out


def test_the_table_of_peers():
    versions = {name: {"version": "1.0", "NumPy": "2.0"} for name in ("minidl", "PyTorch", "X")}
    table = __main__.table({"minidl": [2, 4], "PyTorch": [1, 1], "X": [8, 8]}, versions, {"Y": "no clang"})
    assert table.lines[2] == ["X 1.0", "2.0", "8 s", "8.00 [8.00, 8.00]", "3.00 [2.00, 4.00]"]
    assert table.lines[3][0] == "Y: not measured, no clang"
    assert len({len(line) for line in (table.columns, *table.lines)}) == 1


def test_every_peer_has_a_script():
    assert all((Path(__main__.__file__).parent / peer.script).is_file() for peer in PEERS)


def test_a_missing_program_or_interpreter_is_the_reason(tmp_path, monkeypatch):
    with pytest.raises(installing.UnavailableError, match="no-such-program is not on the PATH"):
        installing.python_of(Peer("x", "x.py", (), program="no-such-program"), tmp_path)
    monkeypatch.setattr(installing.shutil, "which", lambda name: None)
    with pytest.raises(installing.UnavailableError, match=r"no Python from 3\.8 to 3\.9 is on the PATH"):
        installing.python_of(Peer("x", "x.py", (), newest_python=(3, 9)), tmp_path)
    assert installing.interpreter_for(sys.version_info[:2]) == sys.executable


def test_an_environment_is_made_once_and_again_for_other_packages(tmp_path, monkeypatch):
    commands = []

    def run(command):
        commands.append(command)
        (tmp_path / "x" / "bin").mkdir(parents=True, exist_ok=True)
        (tmp_path / "x" / "bin" / "python").touch()

    monkeypatch.setattr(installing, "_run", run)
    for packages, count in (("a==1",), 3), (("a==1",), 3), (("a==2",), 6):
        assert installing.python_of(Peer("X", "x.py", packages), tmp_path) == tmp_path / "x" / "bin" / "python"
        assert len(commands) == count
    assert commands[-1][-1] == "a==2"


def test_an_installation_that_fails_gives_its_reason_and_is_tried_again(tmp_path):
    failing = [sys.executable, "-c", "import sys; sys.exit('WARNING: w\\nERROR: nothing fits\\nhint')"]
    with pytest.raises(installing.UnavailableError, match="ERROR: nothing fits"):
        installing._run(failing)
    assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------- residual smoothing


def test_the_growth_of_the_layer_is_measured_beside_a_matrix_form_of_the_same_values(monkeypatch):
    monkeypatch.setattr(paired, "PAUSE", 0)
    monkeypatch.setattr(paired, "SETTLING", 1e-4)
    monkeypatch.setattr(smoothing, "BATCH", 4)
    table, rows = smoothing.growth([10, 1_000], 3, 1e-4)
    assert [row["M"] for row in rows] == [10, 1_000]
    assert [line[0] for line in table.lines] == ["10", "1,000"]
    labels = smoothing.draw(rows, {"processor": "abacus", "date": "2026-01-01"}).axes[0].texts
    assert [label.get_text() for label in labels] == ["matrix form", "layer"]
    monkeypatch.setattr(smoothing.memory, "available", lambda: 1)
    table, rows = smoothing.growth([10], 3, 1e-4)
    assert rows[0]["matrix"] is None, "it does not fit"
    assert list(table.lines[0][3:]) == ["—", "—"]
    monkeypatch.setattr(smoothing.memory, "available", lambda: 2**40)
    monkeypatch.setattr(smoothing, "matrix_form", lambda d, g: (d, g))
    with pytest.raises(RuntimeError, match="the layer and its matrix form differ at M = 10"):
        smoothing.growth([10], 3, 1e-4)


def test_the_exponent_of_growth():
    rows = [{"M": 10**k, "layer": 1.0 if k < 3 else 7e-9 * 10 ** (1.5 * k), "matrix": None} for k in range(1, 6)]
    assert smoothing.exponent(rows, "layer") == pytest.approx(1.5)
    assert np.isnan(smoothing.exponent(rows, "matrix"))

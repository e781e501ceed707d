"""The search for hyper-parameters: its values, its storages, several processes, interruptions, bad input."""

from __future__ import annotations

import builtins
import json
import math
import os
import signal
import subprocess
import sys
import time
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidl import studies, training
from minidl.studies import Choice, Range, shared
from minidl.studies import search as run_search
from minidl.studies.space import grid_point, grid_size

optuna = pytest.importorskip("optuna", reason="needs the extra 'search': pip install '.[search]'")

ROOT = Path(__file__).parent.parent.parent
BOWL = {"x": Range(-3.0, 5.0), "rate": Range(1e-4, 1.0, log=True), "kind": Choice(["a", "b", "c"])}


def bowl(values, report=None):
    """Return a loss whose minimum, 0, is at x = 1, rate = 0.01, kind = "b"."""
    return (values["x"] - 1) ** 2 + (math.log10(values["rate"]) + 2) ** 2 + (values["kind"] != "b")


def search(objective, space, **settings):
    settings = {"name": "bowl", "direction": "minimize", "storage": optuna.storages.InMemoryStorage()} | settings
    return run_search(objective, space, quiet=True, **settings)


@pytest.fixture(params=["journal", pytest.param("sqlite", marks=pytest.mark.slow)])
def storage(request, tmp_path):
    return tmp_path / "trials.journal" if request.param == "journal" else f"sqlite:///{tmp_path}/trials.db"


def values_of(found):
    return [trial["values"] for trial in found.trials]


# ---------------------------------------------------------------- what is tried, and what is found


def test_a_grid_covers_every_point_once_in_the_order_of_its_choices():
    space = {"a": Choice([1, 2, 3]), "b": Choice(["x", None]), "c": Choice([0.5, True])}
    found = search(lambda values, report: values["a"] + (values["b"] is None), space, method="grid")
    expected = [{"a": a, "b": b, "c": c} for a in (1, 2, 3) for b in ("x", None) for c in (0.5, True)]
    assert values_of(found) == expected
    assert [type(values["c"]) for values in values_of(found)] == [float, bool] * 6
    assert [trial["trial"] for trial in found.trials] == list(range(1, 13))
    assert (found.values, found.value) == ({"a": 1, "b": "x", "c": 0.5}, 1.0)  # of equal ones the first


@given(st.lists(st.integers(1, 5), min_size=1, max_size=4))
def test_the_points_of_a_grid_are_all_different(sizes):
    space = {f"h{i}": Choice(range(size)) for i, size in enumerate(sizes)}
    points = {tuple(grid_point(space, number).items()) for number in range(grid_size(space, "search"))}
    assert len(points) == math.prod(sizes)


@pytest.mark.parametrize("method", ["random", "bayesian"])
def test_values_are_drawn_from_the_space_and_the_best_is_found(method):
    space = BOWL | {"n": Range(1, 4, integer=True), "units": Range(1, 1000, log=True, integer=True)}
    found = search(bowl, space, method=method, trials=20, seed=3)
    assert len(found.trials) == 20
    for trial in found.trials:
        values = trial["values"]
        assert list(values) == list(space)
        assert -3 <= values["x"] <= 5
        assert 1e-4 <= values["rate"] <= 1
        assert values["kind"] in ("a", "b", "c")
        assert type(values["n"]) is type(values["units"]) is int
        assert 1 <= values["n"] <= 4
        assert 1 <= values["units"] <= 1000
        assert trial["value"] == bowl(values)
        assert not trial["pruned"]
        assert trial["reported"] == []
        assert trial["seconds"] >= 0
    best = min(found.trials, key=lambda trial: trial["value"])
    assert (found.values, found.value) == (best["values"], best["value"])
    assert len({values["x"] for values in values_of(found)}) == 20


def test_the_best_of_a_maximum_is_the_largest():
    assert (
        search(lambda values, report: values["a"], {"a": Choice([2, 7, 3])}, method="grid", direction="maximize").value
        == 7
    )


def test_a_bayesian_search_learns_where_good_values_are():
    bayesian, random = (search(bowl, BOWL, trials=60, seed=1, method=method) for method in ("bayesian", "random"))
    learned, drawn = (np.median([trial["value"] for trial in found.trials[30:]]) for found in (bayesian, random))
    assert learned < 0.5 * drawn
    assert bayesian.value < min(0.1, random.value)


@given(st.integers(0, 2**40), st.floats(1e-6, 1.0), st.floats(1.5, 1e6))
def test_what_a_range_draws_lies_in_it(seed, low, factor):
    rng = np.random.default_rng(seed)
    for log in (False, True):
        assert low <= Range(low, low * factor, log=log).draw(rng) <= low * factor
        whole = Range(1, 1 + int(factor), log=log, integer=True)
        assert 1 <= whole.draw(rng) <= 1 + int(factor)


def test_the_distributions_that_are_drawn_from(rng):
    draws = 5000
    assert abs(np.mean([Range(0, 10).draw(rng) < 2.5 for _ in range(draws)]) - 0.25) < 0.03
    assert abs(np.mean([Range(1e-4, 1, log=True).draw(rng) < 1e-3 for _ in range(draws)]) - 0.25) < 0.03
    whole = Counter(Range(0, 3, integer=True).draw(rng) for _ in range(draws))
    assert all(abs(whole[n] / draws - 0.25) < 0.03 for n in range(4))
    log = Counter(Range(1, 3, log=True, integer=True).draw(rng) for _ in range(draws))
    for n in (1, 2, 3):
        expected = math.log((n + 0.5) / (n - 0.5)) / math.log(7)
        assert abs(log[n] / draws - expected) < 0.03
    chosen = Counter(Choice(["a", "b"]).draw(rng) for _ in range(draws))
    assert abs(chosen["a"] / draws - 0.5) < 0.03


# ---------------------------------------------------------------- seeds, going on


@pytest.mark.parametrize("method", ["random", "bayesian"])
def test_a_search_is_the_same_twice_and_another_one_with_another_seed(method, storage):
    first = search(bowl, BOWL, method=method, trials=14, seed=5)
    again = search(bowl, BOWL, method=method, trials=14, seed=5, storage=storage)
    other = search(bowl, BOWL, method=method, trials=14, seed=6)
    assert values_of(first) == values_of(again)
    assert all(a != b for a, b in zip(values_of(first), values_of(other), strict=True))


@pytest.mark.parametrize("method", ["random", "bayesian"])
def test_an_interrupted_search_goes_on_as_if_nothing_had_happened(method, storage):
    done = []

    def interrupted(values, report):
        if len(done) == 12:
            raise KeyboardInterrupt
        done.append(values)
        return bowl(values)

    part = search(interrupted, BOWL, method=method, trials=16, storage=storage)
    assert part.interrupted
    assert len(part.trials) == 12
    assert " trials (interrupted)" in str(part)
    calls = []
    whole = search(
        lambda values, report: calls.append(values) or bowl(values), BOWL, method=method, trials=16, storage=storage
    )
    assert not whole.interrupted
    assert len(calls) == 4
    assert values_of(whole) == values_of(search(bowl, BOWL, method=method, trials=16))
    assert values_of(whole)[:12] == done


def test_more_trials_go_on_and_fewer_only_return_what_is_there(storage):
    space = {"x": BOWL["x"], "rate": BOWL["rate"], "kind": BOWL["kind"]}
    search(bowl, space, trials=12, storage=storage)
    found = search(bowl, dict(reversed(space.items())), trials=15, storage=storage)  # in the order of the first call
    assert values_of(found) == values_of(search(bowl, space, trials=15))
    again = search(lambda values, report: pytest.fail("nothing is left to do"), space, trials=3, storage=storage)
    assert values_of(again) == values_of(found)


def test_an_error_in_the_objective_ends_the_search_and_its_trial_is_run_again(storage):
    space = {"a": Choice([1, 2, 3])}

    def broken(values, report):
        if values["a"] == 2:
            raise OSError("no space left")
        return values["a"]

    with pytest.raises(OSError, match="no space left") as caught:
        search(broken, space, method="grid", storage=storage)
    assert caught.value.__notes__ == ["search: in trial 2, a 2; finished trials are kept"]
    calls = []
    found = search(
        lambda values, report: calls.append(values["a"]) or values["a"], space, method="grid", storage=storage
    )
    assert calls == [2, 3]
    assert [trial["value"] for trial in found.trials] == [1, 2, 3]


def test_ctrl_c_before_anything_is_done_is_raised():
    def interrupted(values, report):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search(interrupted, BOWL, trials=3)


# ---------------------------------------------------------------- pruning, divergence


def test_a_trial_below_the_median_is_pruned_once_five_are_finished():
    def climb(values, report):
        for epoch in range(4):
            report(epoch, values["top"] * (epoch + 1))
        return values["top"] * 4

    tops = [5, 4, 6, 3, 7, 2, 8, 1]
    found = search(climb, {"top": Choice(tops)}, method="grid", direction="maximize")
    assert [trial["pruned"] for trial in found.trials] == [False] * 5 + [True, False, True]
    assert found.trials[5]["reported"] == [[0, 2.0]]
    assert found.trials[5]["value"] == 2
    assert found.trials[6]["reported"] == [[0, 8.0], [1, 16.0], [2, 24.0], [3, 32.0]]
    assert found.value == 32


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_report_that_is_not_finite_is_the_worst(value):
    def objective(values, report):
        report(0, values["a"] if values["a"] < 6 else value)
        return values["a"]

    found = search(objective, {"a": Choice(range(1, 7))}, method="grid", direction="maximize")
    assert [trial["pruned"] for trial in found.trials] == [False] * 5 + [True]
    assert found.trials[5]["value"] is None
    assert "–" in str(found).splitlines()[-1]


def test_pruned_trials_are_never_the_best_and_a_swallowed_prune_still_counts_as_one():
    def objective(values, report):
        try:
            report(0, values["a"])
        except studies.Pruned:
            return -100.0
        return values["a"] + 1000

    found = search(objective, {"a": Choice([1, 2, 3, 4, 5, 50])}, method="grid")
    assert found.trials[5]["pruned"]
    assert found.trials[5]["value"] == 50
    assert found.value == 1001


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_what_diverged_counts_and_is_never_the_best(direction, storage, tmp_path):
    def objective(values, report):
        if values["a"] == 3:
            report(0, math.nan)
            raise training.NonFiniteLossError(7, 1, math.nan, "layer 2")
        report(0, values["a"])
        return {1: math.nan, 2: 0.5, 4: math.inf, 5: -math.inf}.get(values["a"], values["a"])

    space = {"a": Choice([1, 2, 3, 4, 5])}
    found = search(objective, space, method="grid", direction=direction, storage=storage)
    assert (found.values, found.value) == ({"a": 2}, 0.5)
    assert [trial["value"] for trial in found.trials] == [None, 0.5, None, None, None]
    assert found.trials[2]["failure"].startswith("the loss is nan at step 7, epoch 1")
    assert found.trials[2]["reported"] == [[0, None]]
    found.save(tmp_path / "found.json")
    assert json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))["value"] == 0.5


def test_a_bayesian_search_where_most_diverges_goes_on():
    def objective(values, report):
        for epoch in range(2):
            report(epoch, math.nan if values["rate"] > 0.01 else bowl(values))
        return math.nan if values["rate"] > 0.01 else bowl(values)

    found = search(objective, BOWL, trials=40)
    assert len(found.trials) == 40
    assert 0 < sum(trial["value"] is None for trial in found.trials) < 40
    assert found.values["rate"] <= 0.01


def test_a_search_in_which_all_diverges_has_no_best():
    found = search(lambda values, report: math.nan, BOWL, trials=12)
    assert (found.values, found.value) == (None, None)
    assert str(found).count("diverged") == 12


# ---------------------------------------------------------------- what is returned and shown


def test_the_table_and_the_file(tmp_path, capsys):
    space = {"rate": Choice([0.1, 0.01]), "size": Choice([16, 32])}
    storage = tmp_path / "a.journal"
    settings = {"name": "small", "method": "grid", "storage": storage}
    found = run_search(lambda values, report: values["rate"] * values["size"], space, **settings)
    printed = capsys.readouterr().out
    assert f"search small: grid over rate, size; 4 trials; {storage}" in printed
    assert "2/4  rate 0.1  size 32  3.2\n" in printed
    lines = str(found).splitlines()
    assert lines[0] == "search small: grid, 4 trials, best first (maximize)"
    assert lines[1].split() == ["trial", "rate", "size", "value", "seconds"]
    assert [line.split()[0] for line in lines[3:]] == ["2", "1", "4", "3"]
    found.save(tmp_path / "found.json")
    record = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
    assert record["values"] == {"rate": 0.1, "size": 32}
    assert record["trials"] == found.trials
    assert record["settings"]["space"] == {"rate": {"choices": [0.1, 0.01]}, "size": {"choices": [16, 32]}}
    assert record["settings"]["optuna"] == optuna.__version__
    run_search(lambda values, report: 0.0, space, **settings)
    assert "4 of 4 are done already" in capsys.readouterr().out


def test_a_long_table_is_cut():
    found = search(lambda values, report: values["a"], {"a": Choice(range(25))}, method="grid")
    assert "… 5 more" in str(found)
    assert str(found).splitlines()[3].split()[:2] == ["1", "0"]


def test_optuna_says_nothing_and_its_verbosity_comes_back(capfd):
    before = optuna.logging.get_verbosity()
    search(bowl, BOWL, trials=12)
    assert capfd.readouterr() == ("", "")
    assert optuna.logging.get_verbosity() == before


def test_warnings_of_the_objective_are_not_hidden():
    with pytest.warns(UserWarning, match="of my own"):
        search(lambda values, report: warnings.warn("of my own", stacklevel=1) or 0.0, BOWL, trials=1)


def test_the_objective_may_change_its_values():
    found = search(lambda values, report: values.pop("a"), {"a": Choice([1, 2])}, method="grid")
    assert values_of(found) == [{"a": 1}, {"a": 2}]


# ---------------------------------------------------------------- several processes

WORKER = """
import os, sys, time
from pathlib import Path
from minidl.studies import Choice, Range, search
from minidl.studies.space import grid_size
storage, folder, method, last = sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
calls = folder / f"calls-{os.getpid()}"
space = {"a": Choice(range(6)), "b": Choice(range(4))} if method == "grid" else {"a": Range(0.0, 1.0), "b": Range(0, 9)}

def objective(values, report):
    with calls.open("a") as file:
        file.write(f"{values['a']} {values['b']}\\n")
    time.sleep(600 if len(calls.read_text().splitlines()) == last else 0.02)
    return values["a"] + values["b"]

(folder / f"ready-{os.getpid()}").touch()
while not (folder / "go").exists():
    time.sleep(0.005)
trials = None if method == "grid" else 24
found = search(objective, space, name="shared", method=method, trials=trials, storage=storage, quiet=True)
found.save(folder / f"found-{os.getpid()}.json")
"""


def start(storage, folder, method="grid", last=0):
    """Start a process that takes part; its call number `last` never ends."""
    command = [sys.executable, "-W", "error", "-c", WORKER, str(storage), str(folder), method, str(last)]
    return subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"})


def wait_for(condition, seconds=60):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it took too long"
        time.sleep(0.01)


def go(folder, workers):
    wait_for(lambda: len(list(folder.glob("ready-*"))) == len(workers))
    (folder / "go").touch()


def calls_of(folder, worker):
    path = folder / f"calls-{worker.pid}"
    return path.read_text().splitlines() if path.exists() else []


def check_shared(folder, workers, method):
    assert [worker.wait(60) for worker in workers] == [0] * len(workers)
    calls = [calls_of(folder, worker) for worker in workers]
    assert all(calls)  # everyone has done some
    together = [call for some in calls for call in some]
    assert len(together) == len(set(together)) == 24  # none twice, and no more than asked for
    records = [json.loads((folder / f"found-{worker.pid}.json").read_text()) for worker in workers]
    assert all(record == records[0] for record in records)
    assert len(records[0]["trials"]) == 24
    if method == "grid":
        assert set(together) == {f"{a} {b}" for a in range(6) for b in range(4)}
        assert records[0]["value"] == 8


@pytest.mark.slow
def test_three_processes_share_the_trials_and_find_the_same(storage, tmp_path):
    method = "grid" if str(storage).startswith("sqlite") else "bayesian"
    workers = [start(storage, tmp_path, method) for _ in range(3)]
    go(tmp_path, workers)
    check_shared(tmp_path, workers, method)


@pytest.mark.slow
def test_two_processes_share_the_trials_and_what_a_killed_one_was_at_is_run_again(storage, tmp_path):
    killed, other = workers = [start(storage, tmp_path, last=4), start(storage, tmp_path)]
    go(tmp_path, workers)
    wait_for(lambda: len(calls_of(tmp_path, killed)) == 4 and calls_of(tmp_path, other))
    os.kill(killed.pid, signal.SIGKILL)
    assert killed.wait(60) == -signal.SIGKILL
    calls = []
    space = {"a": Choice(range(6)), "b": Choice(range(4))}
    settings = {"name": "shared", "method": "grid", "storage": storage, "quiet": True}
    found = run_search(lambda values, report: calls.append(values) or sum(values.values()), space, **settings)
    assert other.wait(60) == 0
    record = json.loads((tmp_path / f"found-{other.pid}.json").read_text(encoding="utf-8"))
    assert record["trials"] == found.trials
    assert [trial["values"] for trial in found.trials] == [{"a": a, "b": b} for a in range(6) for b in range(4)]
    ours = [f"{values['a']} {values['b']}" for values in calls]
    everyone = Counter(calls_of(tmp_path, killed) + calls_of(tmp_path, other) + ours)
    assert len(everyone) == 24
    assert [call for call, times in everyone.items() if times != 1] == calls_of(tmp_path, killed)[3:]
    assert everyone.total() == 25


class Elsewhere:
    """Another machine's process that is at a trial, in this one."""

    def __init__(self, storage, space, settings, count):
        self.study = shared.SharedStudy(storage, "bowl", settings)
        self.study._own["host"] = "elsewhere"
        self.running = self.study.claim(count, lambda place, held: {"a": place}, space)


@pytest.fixture
def elsewhere(monkeypatch):
    monkeypatch.setattr(shared, "BEAT", 0.05)
    monkeypatch.setattr(shared, "PATIENCE", 0.4)
    monkeypatch.setattr(sys.modules["minidl.studies.search"], "PAUSE", 0.02)
    storage, space = optuna.storages.InMemoryStorage(), {"a": Choice([0, 1, 2])}
    settings = {"method": "grid", "direction": "minimize", "seed": 0, "space": {"a": {"choices": [0, 1, 2]}}}
    return Elsewhere(storage, space, settings, 3), storage, space


def test_a_silent_trial_of_another_machine_is_run_again_and_its_late_result_does_not_count(elsewhere):
    other, storage, space = elsewhere
    calls = []
    began = time.monotonic()
    found = search(lambda values, report: calls.append(values["a"]) or 10.0, space, method="grid", storage=storage)
    assert time.monotonic() - began >= 0.4
    assert calls == [1, 2, 0]
    assert not other.study.finish(other.running, 3.0, "diverged")
    assert other.study.report(other.running, 0, 1.0)  # it may stop
    assert [trial["value"] for trial in found.trials] == [10, 10, 10]
    assert all(trial["failure"] == "" for trial in found.trials)


def test_a_trial_that_gives_signs_of_life_is_waited_for(elsewhere):
    import threading

    other, storage, space = elsewhere

    def work():
        with other.study.alive(other.running):
            time.sleep(1.0)
        assert other.study.finish(other.running, 3.0)

    thread = threading.Thread(target=work)
    thread.start()
    calls = []
    found = search(lambda values, report: calls.append(values["a"]) or 10.0, space, method="grid", storage=storage)
    thread.join()
    assert calls == [1, 2]
    assert [trial["value"] for trial in found.trials] == [3, 10, 10]


def test_of_two_that_begin_the_same_trial_one_gives_up(elsewhere):
    other, storage, space = elsewhere
    second = shared.SharedStudy(storage, "bowl", other.study.settings)
    proposed = []

    def propose(place, held):
        if not proposed:  # between the look at what is free and the claim, another one is faster
            assert other.study.claim(3, lambda place, held: {"a": place}, space).place == 1
        proposed.append(place)
        return {"a": place}

    assert second.claim(3, propose, space).place == 2
    assert proposed == [1, 2]
    assert second.claim(3, propose, space) is None


def test_a_database_is_a_storage(tmp_path):
    def objective(values, report):
        report(0, values["a"])
        if values["a"] == 2 and not tmp_path.joinpath("again").exists():
            tmp_path.joinpath("again").touch()
            raise KeyboardInterrupt
        return math.nan if values["a"] == 3 else values["a"]

    space, storage = {"a": Choice([1, 2, 3])}, f"sqlite:///{tmp_path}/trials.db"
    assert len(search(objective, space, method="grid", storage=storage).trials) == 1
    found = search(objective, space, method="grid", storage=storage)
    assert [trial["value"] for trial in found.trials] == [1, 2, None]
    assert [trial["reported"] for trial in found.trials] == [[[0, 1.0]], [[0, 2.0]], [[0, 3.0]]]


def test_one_storage_holds_several_studies(storage):
    space = {"a": Choice([1, 2])}
    first = search(lambda values, report: values["a"], space, method="grid", storage=storage)
    other = search(lambda values, report: -values["a"], space, method="grid", storage=storage, name="other")
    assert (first.value, other.value) == (1, -2)
    assert len(first.trials) == len(other.trials) == 2


# ---------------------------------------------------------------- storages that are broken or foreign


def test_the_default_storage_is_a_file_in_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    search(bowl, BOWL, trials=2, storage=None)
    assert os.listdir(tmp_path) == ["minidl-search.journal"]


def test_a_last_line_that_was_not_finished_is_removed(tmp_path):
    path = tmp_path / "a.journal"
    search(bowl, BOWL, trials=3, storage=path)
    with path.open("ab") as file:
        file.write(b'{"op_code":4,"work')
    found = search(bowl, BOWL, trials=6, storage=path)
    assert values_of(found) == values_of(search(bowl, BOWL, trials=6))
    assert values_of(search(bowl, BOWL, trials=6, storage=path)) == values_of(found)


@pytest.mark.parametrize("content", [b"\x89PNG\r\n\x1a\n", b"[1, 2]\n", b"not finished"])
def test_a_foreign_file_is_refused_and_left_as_it_is(tmp_path, content):
    path = tmp_path / "other"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="other, which is no journal of Optuna"):
        search(bowl, BOWL, trials=1, storage=path)
    assert path.read_bytes() == content


def test_a_damaged_journal_is_a_clear_error(tmp_path):
    path = tmp_path / "a.journal"
    search(bowl, BOWL, trials=3, storage=path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:4], lines[4][:9] + b"\n", *lines[5:]]))
    with pytest.raises(ValueError, match="a.journal is damaged"):
        search(bowl, BOWL, trials=3, storage=path)


@pytest.mark.parametrize(
    ("where", "error", "message"),
    [
        (
            "{}/missing/a.journal",
            FileNotFoundError,
            "search: cannot open the storage .*missing/a.journal: No such file",
        ),
        ("{}", IsADirectoryError, "search: cannot open the storage .*: Is a directory"),
        ("sqlite:///{}/missing/a.db", OSError, "search: cannot open the storage sqlite:///.*unable to open"),
        (
            "nosuch://me:secret@host/db",
            ValueError,
            r"storage is nosuch://me:\*\*\*@host/db, expected a URL that Optuna",
        ),
        ("oracle://me:secret@host/db", ImportError, r"the storage oracle://me:\*\*\*@host/db needs a driver: .*"),
        (7, TypeError, "search: storage is 7, expected a path"),
    ],
)
def test_storages_that_cannot_be_opened(tmp_path, monkeypatch, where, error, message):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    where = where.format(tmp_path) if isinstance(where, str) else where
    with pytest.raises(error, match=message) as caught:
        search(bowl, BOWL, trials=1, storage=where)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"space": BOWL | {"x": Range(-3.0, 6.0)}},
            "study 'bowl' is there with another space: .*'high': 5.0.*'high': 6.0",
        ),
        ({"method": "random"}, "study 'bowl' is there with another method: bayesian, not random; choose another name"),
        ({"direction": "maximize"}, "another direction: minimize, not maximize"),
        ({"seed": 1}, "another seed: 0, not 1"),
    ],
)
def test_another_search_under_the_same_name_is_refused(storage, changed, message):
    search(bowl, BOWL, trials=1, storage=storage)
    settings = {"space": BOWL, "trials": 2, "storage": storage} | changed
    with pytest.raises(ValueError, match=message):
        search(bowl, **settings)


def test_a_study_that_was_made_elsewhere_is_refused():
    storage = optuna.storages.InMemoryStorage()
    study = optuna.create_study(storage=storage, study_name="bowl")
    study.add_trial(optuna.trial.create_trial(value=1.0))
    with pytest.raises(ValueError, match="study 'bowl' was not made by minidl"):
        search(bowl, BOWL, trials=1, storage=storage)


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"objective": 3}, TypeError, "search: objective is 3, expected a callable"),
        ({"space": {}}, TypeError, "search: space is {}, expected a dict"),
        ({"space": [Range(0, 1)]}, TypeError, "expected a dict of names and Choice or Range"),
        ({"space": {"x": [1, 2]}}, TypeError, r"search: space\['x'\] is \[1, 2\], expected a Choice or a Range"),
        ({"space": {3: Range(0, 1)}}, TypeError, "space has the name 3, expected a string"),
        ({"name": ""}, TypeError, "search: name is '', expected a string"),
        ({"method": "tpe"}, ValueError, "search: method is 'tpe', expected one of bayesian, random, grid"),
        ({"direction": "up"}, ValueError, "search: direction is 'up', expected one of maximize, minimize"),
        ({"trials": None}, ValueError, "search: trials is None, expected a positive integer"),
        ({"trials": 0}, ValueError, "search: trials is 0, expected a positive integer"),
        ({"seed": -1}, ValueError, "search: seed is -1"),
        ({"method": "grid", "trials": None}, ValueError, r"space\['x'\] is Range\(low=-3.0.*; a grid needs a Choice"),
        (
            {"method": "grid", "space": {"a": Choice([1, 2])}, "trials": 7},
            ValueError,
            "trials is 7, but the grid has 2 points",
        ),
    ],
)
def test_bad_arguments(settings, error, message):
    with pytest.raises(error, match=message):
        search(**({"objective": bowl, "space": BOWL, "trials": 3} | settings))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Choice([]), TypeError, r"Choice: values is \[\], expected a sequence of at least one value"),
        (lambda: Choice("abc"), TypeError, "Choice: values is 'abc'"),
        (
            lambda: Choice([1, [2]]),
            TypeError,
            r"Choice: a value is \[2\], expected None, a bool, an int, a float or a str",
        ),
        (lambda: Choice([1, math.nan]), ValueError, "Choice: a value is nan, expected a finite number"),
        (lambda: Choice([1, 2, True]), ValueError, "Choice: True is there twice"),
        (lambda: Range("0", 1), TypeError, "Range: low is '0', expected a number"),
        (lambda: Range(0, True), TypeError, "Range: high is True, expected a number"),
        (lambda: Range(0, 1.5, integer=True), TypeError, "Range: high is 1.5, expected an integer"),
        (lambda: Range(0, math.inf), ValueError, "Range: high is inf, expected a finite number"),
        (lambda: Range(0, 2**60, integer=True), ValueError, "an integer up to 2\\*\\*53"),
        (lambda: Range(-1e308, 1e308), ValueError, "expected a difference that is finite"),
        (lambda: Range(1, 1), ValueError, "Range: low is 1.0 and high 1.0, expected low < high"),
        (lambda: Range(0, 1, log=True), ValueError, "Range: low is 0.0, expected a positive number with log=True"),
    ],
)
def test_bad_values(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize("value", [None, "0.5", True, np.zeros(2), 1j])
def test_an_objective_that_returns_no_number(value):
    with pytest.raises(TypeError, match="search: the objective returned .*, expected a number"):
        search(lambda values, report: value, BOWL, trials=1)


@pytest.mark.parametrize(
    ("reports", "error", "message"),
    [
        ([(0, "1")], TypeError, "report: value is '1', expected a number"),
        ([(-1, 1.0)], ValueError, "report: epoch is -1, expected a non-negative integer"),
        ([(0.5, 1.0)], ValueError, "report: epoch is 0.5"),
        ([(2, 1.0), (2, 1.0)], ValueError, "report: epoch 2 was reported already"),
    ],
)
def test_bad_reports(reports, error, message):
    def objective(values, report):
        for epoch, value in reports:
            report(epoch, value)
        return 0.0

    with pytest.raises(error, match=message):
        search(objective, BOWL, trials=1)


def test_numbers_of_numpy_are_numbers():
    def objective(values, report):
        report(np.int64(0), np.float32(0.25))
        return np.float32(0.25)

    found = search(objective, BOWL, trials=1)
    assert found.value == 0.25
    assert found.trials[0]["reported"] == [[0, 0.25]]


def test_without_optuna_a_clear_error(monkeypatch):
    real = builtins.__import__

    def without(name, *arguments, **keywords):
        if name.startswith("optuna"):
            raise ModuleNotFoundError("No module named 'optuna'")
        return real(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match='search: Optuna is not installed: pip install "minidl\\[search\\]"'):
        run_search(bowl, BOWL, name="bowl", trials=1)

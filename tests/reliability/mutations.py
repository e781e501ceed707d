"""Break the code in many small ways, one at a time, and report what no test notices.

    python tests/reliability/mutations.py --mutants 400 --seed 0

Each line of the rooms can be broken in one way or more (`mutants.py`): a sign, a factor, an axis, an index by one, the
place of ε, a missing term, statement or argument, a condition. Of each line drawn one mutant is drawn. First all tests
run once, with coverage, which tells what tests run which lines; then for every mutant those tests run, the most special
ones first, in a copy of the project, until one fails. At the end the tests that failed run on the code as it is, and
must pass. Mutants that change nothing that a test could observe, such as when an array is large enough for several
threads, are told in `equivalent.json`, each with the reason; a null in the place of the broken line means all of them.

`--map FILE` keeps what the first run found, and uses it if it is there. `--report FILE` keeps all outcomes, and
`--again FILE` tries those once more that nobody had noticed and nothing explains. Needs the extra "reliability".
"""

from __future__ import annotations

import argparse
import collections
import concurrent.futures
import json
import os
import queue
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from reliability import mutants
from reliability.mutants import Mutant

ROOT = Path(__file__).parents[2]
ROOMS = ("ops", "optim", "nn", "kernels")
TRAVELLING = ("minidl", "tests", "lessons", "docs", "benchmarks", "conftest.py", "pyproject.toml", "README.md")
PYTEST = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
ALONE = [*PYTEST, "-x", "--tb=line", "-o", "addopts=--doctest-modules --import-mode=importlib"]
FIRST, MOST = 30, 600  # tests that run for a mutant at first, and in all
LAST = {  # slower tests, for what the others do not notice
    ".py": ["tests/test_defaults.py"],
    ".cu": ["tests/kernels/cuda/test_sanitizers.py"],
    ".cuh": ["tests/kernels/cuda/test_sanitizers.py"],
}
USAGE = 4  # pytest's exit status where a test does not exist
SECONDS = 300  # for one run of tests; a mutant that takes longer counts as noticed
MEMORY = 12 << 30  # bytes that a run of tests may take


@dataclass(frozen=True)
class Outcome:
    """What became of a mutant: "killed" by a test, "hung", "survived" its tests, or run by "no test"."""

    mutant: Mutant
    what: str
    by: str = ""


NOTICED = ("killed", "hung")
ENOUGH = 0.95


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--mutants", type=int, default=400, help="how many lines are broken (default: 400)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", default=[f"minidl/{room}" for room in ROOMS], metavar="PATH")
    parser.add_argument("--tests", nargs="+", default=["tests", "minidl"], metavar="PATH")
    parser.add_argument("--map", type=Path, metavar="FILE", help="where the coverage is kept")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write all outcomes there, as JSON")
    parser.add_argument("--again", type=Path, metavar="FILE", help="a report: try once more what nobody had noticed")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    options = parser.parse_args()

    before, reasons = _read(options.again) if options.again else [], _reasons()
    kept = [outcome for outcome in before if outcome.what in NOTICED or _reason(outcome.mutant, reasons)]
    again = [outcome.mutant for outcome in before if outcome not in kept]
    drawn = again if before else _draw(options.only, options.mutants, options.seed)
    with tempfile.TemporaryDirectory() as scratch:
        coverage = options.map or Path(scratch, "coverage")
        if not coverage.exists():
            _run_all(options.tests, coverage)
        tests = _Tests(coverage)
        outcomes = kept + _try_all(drawn, tests, Path(scratch), options.processes)
        _check_killers(outcomes)
    if options.report:
        options.report.write_text(json.dumps([vars(o) | {"mutant": vars(o.mutant)} for o in outcomes], indent=1))
    return _tell(outcomes)


def _read(report: Path) -> list[Outcome]:
    entries = json.loads(report.read_text(encoding="utf-8"))
    return [Outcome(Mutant(**entry["mutant"]), entry["what"], entry["by"]) for entry in entries]


def _files(paths: list[str]) -> list[str]:
    found = [path for name in paths for path in [ROOT / name, *(ROOT / name).rglob("*")]]
    return sorted(str(path.relative_to(ROOT)) for path in found if path.suffix in (".py", ".cu", ".cuh"))


def _draw(paths: list[str], count: int, seed: int) -> list[Mutant]:
    """Return one mutant each of `count` lines, in a random order."""
    lines = [line for path in _files(paths) for line in mutants.per_line(mutants.of_file(ROOT, path))]
    chance = random.Random(seed)
    print(f"{len(lines)} lines can be broken, {min(count, len(lines))} are", flush=True)
    return [chance.choice(line) for line in chance.sample(lines, min(count, len(lines)))]


# ---------------------------------------------------------------- which tests run which lines


def _run_all(tests: list[str], coverage: Path) -> None:
    measured = ["--cov=minidl", "--cov-branch", "--cov-context=test", "--cov-report="]
    with tempfile.TemporaryDirectory() as folder:  # its own: coverage removes what lies beside its file
        file = Path(folder, "coverage")
        environment = os.environ | {"COVERAGE_FILE": str(file)}
        if subprocess.run([*PYTEST, *measured, *tests], cwd=ROOT, env=environment, check=False).returncode:
            sys.exit("mutations: the tests do not pass before anything is broken")
        shutil.copy(file, coverage)


class _Tests:
    """The tests that run a line, as the coverage of a run of all tests tells."""

    def __init__(self, file: Path) -> None:
        from coverage import CoverageData

        data = CoverageData(str(file))
        data.read()
        self._lines: dict[str, dict[int, list[str]]] = {}
        self._breadth: collections.Counter[str] = collections.Counter()
        for path in data.measured_files():
            lines = {
                line: [test for context in contexts if (test := context.partition("|")[0])]
                for line, contexts in data.contexts_by_lineno(path).items()
            }
            self._lines[str(Path(path).relative_to(ROOT))] = lines
            for found in lines.values():
                self._breadth.update(found)

    def of(self, mutant: Mutant) -> list[str]:
        """Return the tests that run a mutant's line, or its file if the line runs when it is imported."""
        if not mutant.path.endswith(".py"):
            found = {test for path in _launchers(mutant.path) for test in self._of_file(path)}
        else:
            source = (ROOT / mutant.path).read_text()
            last = mutant.line + source.count("\n", mutant.start, mutant.end)
            lines = self._lines.get(mutant.path, {})
            found = {test for line in range(mutant.line, last + 1) for test in lines.get(line, [])}
            found = found or self._of_file(mutant.path)
        return sorted(found, key=lambda test: (self._breadth[test], test))

    def _of_file(self, path: str) -> set[str]:
        return {test for tests in self._lines.get(path, {}).values() for test in tests}


def _launchers(path: str) -> list[str]:
    """Return the Python files that name a CUDA file, or one that includes it."""
    folder = (ROOT / path).parent
    names = {Path(path).name}
    for _ in range(4):  # as deep as they include one another
        names |= {file.name for file in folder.glob("*.cu*") if _holds(file, '#include "{}"', names)}
    return [str(file.relative_to(ROOT)) for file in folder.glob("*.py") if _holds(file, '"{}"', names)]


def _holds(file: Path, phrase: str, names: set[str]) -> bool:
    text = file.read_text(encoding="utf-8")
    return any(phrase.format(name) in text for name in names)


# ---------------------------------------------------------------- running them


def _try_all(drawn: list[Mutant], tests: _Tests, scratch: Path, processes: int) -> list[Outcome]:
    copies: queue.Queue[Path] = queue.Queue()
    for i in range(processes):
        copies.put(_copy(scratch / f"copy-{i}"))

    def attempt(mutant: Mutant) -> Outcome:
        copy = copies.get()
        try:
            outcome = _attempt(mutant, tests.of(mutant), copy)
        finally:
            copies.put(copy)
        if outcome.what not in NOTICED:
            print(f"{outcome.what}: {described(mutant)}", flush=True)
        return outcome

    began, outcomes = time.monotonic(), []
    with concurrent.futures.ThreadPoolExecutor(processes) as pool:
        for outcome in pool.map(attempt, drawn):
            outcomes.append(outcome)
            if len(outcomes) % 25 == 0:
                print(f"{len(outcomes)} mutants in {time.monotonic() - began:.0f} s", flush=True)
    return outcomes


def _copy(folder: Path) -> Path:
    for name in TRAVELLING:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    return folder


def _attempt(mutant: Mutant, tests: list[str], copy: Path) -> Outcome:
    """Break the copy, run the tests, and mend it."""
    if not tests:
        return Outcome(mutant, "no test")
    file = copy / mutant.path
    limit = MEMORY if file.suffix == ".py" else resource.RLIM_INFINITY  # the address sanitizer reserves terabytes
    source = file.read_text(encoding="utf-8")
    file.write_text(mutant.of(source), encoding="utf-8")
    try:
        for some in (tests[:FIRST], tests[FIRST:MOST], LAST[file.suffix]):
            what, by = _run(some, copy, limit) if some else ("survived", "")
            if what != "survived":
                return Outcome(mutant, what, by)
        return Outcome(mutant, "survived")
    finally:
        file.write_text(source, encoding="utf-8")


def _run(tests: list[str], copy: Path, limit: int) -> tuple[str, str]:
    """Run tests on a broken copy until one fails, and say which."""
    environment = os.environ | {
        "PYTHONPATH": str(copy),
        "PYTHONDONTWRITEBYTECODE": "1",  # a file's time does not tell two mutants apart
        "OPENBLAS_NUM_THREADS": "1",
        "XDG_CACHE_HOME": str(copy / "cache"),
    }
    process = subprocess.Popen(
        [*ALONE, *tests], cwd=copy, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
    )  # fmt: skip
    try:
        output, _ = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return "hung", ""
    if process.returncode == 0:
        return "survived", ""
    if process.returncode == USAGE and any("::" in test for test in tests):  # the mutant has renamed a test
        return _run(sorted({test.partition("::")[0] for test in tests}), copy, limit)
    failed = [line.split(" ", 1)[1] for line in output.splitlines() if line.startswith(("FAILED ", "ERROR "))]
    return "killed", failed[0].partition(" - ")[0] if failed else f"exit {process.returncode}"


def _check_killers(outcomes: list[Outcome]) -> None:
    """Raise unless the tests that noticed something pass on the code as it is."""
    killers = sorted({outcome.by for outcome in outcomes if "::" in outcome.by})
    if not killers:
        return
    run = subprocess.run([*ALONE, "-n", "auto", *killers], cwd=ROOT, capture_output=True, text=True, check=False)
    if run.returncode:
        sys.exit(f"mutations: tests that noticed mutants fail on the code as it is:\n{run.stdout[-3000:]}")
    print(f"{len(killers)} tests noticed something; all pass on the code as it is")


# ---------------------------------------------------------------- telling it


def described(mutant: Mutant) -> str:
    """Return place, kind and both texts of the line."""
    source = (ROOT / mutant.path).read_text(encoding="utf-8")
    before, after = _line_of(source, mutant), _line_of(mutant.of(source), mutant)
    return f"{mutant.path}:{mutant.line} ({mutant.kind})\n    - {before}\n    + {after}"


def _line_of(source: str, mutant: Mutant) -> str:
    return source.splitlines()[mutant.line - 1].strip()


def _reasons() -> dict[tuple[str, str, str | None], str]:
    """Return why some mutants change nothing that can be observed, by path, line and broken line."""
    entries = json.loads(Path(__file__).with_name("equivalent.json").read_text(encoding="utf-8"))
    return {(entry["path"], entry["line"], entry["broken"]): entry["because"] for entry in entries}


def _reason(mutant: Mutant, reasons: dict[tuple[str, str, str | None], str]) -> str | None:
    source = (ROOT / mutant.path).read_text(encoding="utf-8")
    line = _line_of(source, mutant)
    return reasons.get((mutant.path, line, _line_of(mutant.of(source), mutant))) or reasons.get(
        (mutant.path, line, None)
    )


def _tell(outcomes: list[Outcome]) -> int:
    """Print a table and the survivors; return 0 if 95 % of what is not explained were noticed."""
    reasons = _reasons()
    table: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    unexplained = []
    for outcome in outcomes:
        what = outcome.what
        if what not in NOTICED:
            what = "explained" if _reason(outcome.mutant, reasons) else "survived"
        if what == "survived":
            unexplained.append(outcome)
        parts = Path(outcome.mutant.path).parts
        room = "/".join(parts[1:3] if parts[1] == "kernels" else parts[1:2])
        table[room][what] += 1
        table["all"][what] += 1
    print(f"{'room':16}{'mutants':>8}{'killed':>8}{'hung':>8}{'explained':>11}{'survived':>10}{'noticed':>9}")
    for room in sorted(table, key=lambda room: (room == "all", room)):
        row = table[room]
        noticed = (row["killed"] + row["hung"]) / max(1, row.total() - row["explained"])
        cells = f"{row.total():8}{row['killed']:8}{row['hung']:8}{row['explained']:11}{row['survived']:10}"
        print(f"{room:16}{cells}{noticed:9.1%}")
    for outcome in unexplained:
        print(f"{outcome.what}: {described(outcome.mutant)}")
    return 0 if noticed >= ENOUGH else 1  # of all rooms: the last row


if __name__ == "__main__":
    sys.exit(main())

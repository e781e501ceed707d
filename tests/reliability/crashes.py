"""Kill trainings, studies and downloads at random moments, and see whether anything is lost.

    python tests/reliability/crashes.py --kills 50 --seed 0

Each of the victims is killed by SIGKILL as often as `--kills` says, again and again in one folder until its work is
done, then in a fresh one. After every kill each file must be whole or absent. At the end of the work the result must be
that of a run that was left alone, to the last bit, and the folder must hold the same files, no temporary one.
`--only` picks victims by a part of their names. The exit status is 1 if there is a fault.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):  # read when NumPy is imported
    os.environ.setdefault(name, "1")
sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

FORK = multiprocessing.get_context("fork")  # what is killed begins with everything imported
TOO_LONG = 300.0  # seconds until a process is taken to hang


class Fault(Exception):  # noqa: N818
    """Something is lost, wrong, or hangs."""


def survive(victim: Any, kills: int, draw: random.Random, home: Path) -> tuple[list[str], list[str]]:
    """Kill the victim so many times; return the row of the table and the faults."""
    alone, faults, hits, results = home / "alone", [], Counter(), 0
    finish(victim, alone)
    expected, names = victim.result(alone), content(alone)
    while hits.total() < kills:
        folder = home / f"killed-{results}"
        while hits.total() < kills:
            where = f"{victim.name}, kill {hits.total() + 1}: "
            process = start(victim, folder)
            try:
                if not victim.strike(process, folder, draw):
                    process.join()
                    break  # the work was done
            except Fault as fault:
                faults.append(f"{where}{fault}")
                kill_group(process)
            hits[victim.place(folder)] += 1
            faults += [where + fault for fault in victim.broken(folder)]
            if len(temporaries(folder)) > victim.writers:
                faults.append(f"{where}temporary files pile up: {', '.join(temporaries(folder))}")
        results += 1
        try:
            finish(victim, folder)
            if victim.result(folder) != expected:
                raise Fault("the result is another one")
            if content(folder) != names:
                raise Fault(f"the folder holds {', '.join(content(folder))}, expected {', '.join(names)}")
        except Fault as fault:
            faults.append(f"{victim.name}, result {results}: {fault}")
    moments = ", ".join(f"{count} {place}" for place, count in hits.most_common())
    verdict = f"{len(faults)} FAULTS" if faults else "whole, equal, clean"
    return [victim.name, str(hits.total()), moments, str(results), verdict], faults


def start(victim: Any, folder: Path) -> Any:
    """Begin the work, or go on with it, in a process that leads a group of its own."""
    folder.mkdir(exist_ok=True)
    process = FORK.Process(target=_work, args=(victim, folder))
    process.start()
    return process


def finish(victim: Any, folder: Path) -> None:
    """Let the work be done; raise Fault if it fails or hangs."""
    process = start(victim, folder)
    process.join(TOO_LONG)
    if process.exitcode != 0:
        kill_group(process)
        raise Fault(f"status {process.exitcode} at the end, {log(folder).read_text()[-1000:]}")


def _work(victim: Any, folder: Path) -> None:
    os.setsid()
    output = os.open(log(folder), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    victim.work(folder)


def log(folder: Path) -> Path:
    """Return the file, beside the folder, that holds what the last process said."""
    return folder.with_suffix(".log")


def kill_group(process: Any) -> None:
    """Kill a process and all that it has begun, and wait until they are gone."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        process.kill()  # it has not made its group yet, or is gone
    process.join()
    wait_until(lambda: not alive(process.pid), "the group is gone")


def alive(group: int) -> bool:
    """Whether a process of the group is alive."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def wait_until(condition: Any, what: str) -> None:
    """Wait for a condition; raise Fault if it hangs."""
    end = time.monotonic() + TOO_LONG
    while not condition():
        if time.monotonic() > end:
            raise Fault(f"after {TOO_LONG:g} seconds there is no sign that {what}")
        time.sleep(0.001)


def content(folder: Path) -> list[str]:
    """Return the names of all files below a folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def temporaries(folder: Path) -> list[str]:
    """Return the names of the temporary files."""
    from minidl.files import MARK

    return [name for name in content(folder) if MARK in name]


def main(arguments: list[str] | None = None) -> int:
    """Kill, print the table, and return the exit status."""
    import victims

    from minidl import tables

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50, help="of each victim (50)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (0)")
    parser.add_argument("--only", action="append", default=[], metavar="PART", help="victims of names with this")
    options = parser.parse_args(arguments)
    rows, faults = [], []
    for number, victim in enumerate(victims.VICTIMS):
        if options.only and not any(part in victim.name for part in options.only):
            continue
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as home:
            row, found = survive(victim, options.kills, random.Random(f"{options.seed} {number}"), Path(home))
        rows.append([*row, f"{time.monotonic() - began:.0f}"])
        faults += found
        print(f"{victim.name}: {row[-1]}", file=sys.stderr, flush=True)
    headings = ("killed", "kills", "where they hit", "results", "verdict", "seconds")
    print(tables.as_text(f"SIGKILL at random moments, seed {options.seed}", headings, rows))
    for fault in faults:
        print(fault)
    return 1 if faults else 0


if __name__ == "__main__":
    import crashes  # as the victims know it

    sys.exit(crashes.main())

"""Give every reader files and texts that are damaged or made to do harm.

    python tests/reliability/fuzz.py --inputs 100000 --seed 0

Each input must give data, or one of the errors that the reader's documentation names, which says what was read: never
another exception or a warning of NumPy, never a crash, a hang, or more memory than the input's own size explains; and
no file may appear beside those that the command wrote. Inputs are read in child processes, by batches, under limits of
the system: a crash or a hang ends a batch and is told with its input. What is printed makes every input again:

    python tests/reliability/fuzz.py --seed 0 --only archive --number 4711
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import collections
import mmap
import multiprocessing
import random
import re
import resource
import signal
import struct
import sys
import tempfile
import time
import traceback
import tracemalloc
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from reliability import hostile_data as files
from reliability import hostile_state as states

import minidl as ml

BATCH = 250  # inputs for each child process
SECONDS = 5.0  # of computing, for each input
WAITING = 120  # seconds of waiting, for each input
MEMORY = 400 << 20  # bytes that a child process may take besides
LONGEST = 2000  # characters of a message, besides what it quotes
SPARE = 4 << 20  # bytes of Python's and NumPy's that a reader may take for any input


@dataclass(frozen=True)
class Format:
    """How inputs of one kind are made and read; `factor`: how many bytes of memory each of their bytes may take."""

    make: Callable[[random.Random], tuple[str, Any]]
    read: Callable[..., None]
    share: int
    factor: int = 20
    errors: tuple[type[Exception], ...] = (ValueError,)
    named: str = ""
    prepare: Callable[[Path], None] | None = None
    memory: int = MEMORY


FORMATS = {
    "idx": Format(files.make_idx, files.read_idx, 12),
    "cifar": Format(files.make_cifar, files.read_cifar, 10),
    "archive": Format(files.make_archive, files.read_archive, 12),
    "svhn": Format(files.make_svhn, files.read_svhn, 12),
    "images": Format(
        files.make_images, files.read_images, 10, prepare=files.prepare_images, memory=4 * MEMORY, named="from_folder"
    ),  # Pillow reads images of up to 89 million pixels
    "checkpoint": Format(states.make_checkpoint, states.read_checkpoint, 10, factor=40),
    "history": Format(states.make_history, states.read_history, 8, factor=100),
    "record": Format(states.make_record, states.read_record, 10, factor=100),
    "recipe": Format(states.make_recipe, states.read_recipe, 8, 3000, (ValueError, TypeError), "recipe"),
    "augmentation": Format(states.make_augmentation, states.read_augmentation, 8, 3000),
    "grid": Format(states.make_grid, states.read_grid, 4, 3000, (ValueError, TypeError)),
}


@dataclass
class Fault:
    """An input that did what none may do."""

    format: str
    number: int
    what: str
    trace: str = ""


class Limit(Exception):  # noqa: N818
    """The input took more than it may."""


def one(name: str, seed: int, number: int, folder: Path) -> str:
    """Make an input and read it; return "data" or "error"; raise what is a fault."""
    format = FORMATS[name]
    label, content = format.make(random.Random(f"{seed} {name} {number}"))
    path = folder / label
    given: tuple[Any, ...] = (label, content)
    if isinstance(content, bytes):
        path.write_bytes(content)
        given = (path,)
    tracemalloc.start()
    try:
        format.read(*given)
    except format.errors as error:
        if type(error) not in format.errors and type(error) is not FileNotFoundError:
            raise
        named = format.named or (str(path) if isinstance(content, bytes) else "")
        check_message(str(error), named, LONGEST + 4 * len(content))
        outcome = "error"
    else:
        outcome = "data"
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        if isinstance(content, bytes):
            path.unlink()
    if peak > SPARE + format.factor * len(content):
        raise Limit(f"took {peak:,} bytes for an input of {len(content):,}")
    return outcome


def check_message(message: str, named: str, longest: int) -> None:
    assert named in message, f"the message does not name {named}: {message:.200}"
    assert len(message) < longest, f"the message has {len(message):,} characters: {message:.200}"


def read_batch(name: str, seed: int, numbers: range, shared: mmap.mmap, faults: Any) -> None:
    """Read inputs in this process, which may end any time, and count them in the shared memory."""
    format = FORMATS[name]
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # libraries of image formats complain there
    warnings.simplefilter("ignore")
    warnings.simplefilter("error", RuntimeWarning)
    ml.set_threads(1)
    with tempfile.TemporaryDirectory(prefix="minidl-fuzz-") as outer:
        folder = Path(outer, "in", "here")
        folder.mkdir(parents=True)
        os.chdir(folder)
        if format.prepare:
            format.prepare(folder)
        before = sorted(Path(outer).rglob("*"))
        taken = int(re.search(r"VmSize:\s+(\d+)", Path("/proc/self/status").read_text())[1]) * 1024
        resource.setrlimit(resource.RLIMIT_AS, (taken + format.memory, resource.RLIM_INFINITY))
        data = errors = 0
        for number in numbers:
            struct.pack_into("qqq", shared, 0, number, data, errors)
            signal.setitimer(signal.ITIMER_PROF, SECONDS)  # its signal ends the process, wherever it computes
            signal.alarm(WAITING)
            try:
                outcome = one(name, seed, number, folder)
            except BaseException as error:
                trace = "".join(traceback.format_exception(error))[-3000:]
                faults.send(Fault(name, number, f"{type(error).__name__}: {error!s:.200}", trace))
            else:
                data, errors = data + (outcome == "data"), errors + (outcome == "error")
        signal.setitimer(signal.ITIMER_PROF, 0)
        struct.pack_into("qqq", shared, 0, numbers.stop, data, errors)
        made = set(Path(outer).rglob("*")) - set(before)
        if made:
            faults.send(Fault(name, numbers.start, f"files appeared in this batch: {sorted(map(str, made))[:3]}"))
    faults.close()


def batches(count: int, only: list[str]) -> Iterator[tuple[str, range]]:
    """Yield formats and numbers of inputs, all formats in turn."""
    names = only or list(FORMATS)
    shares = sum(FORMATS[name].share for name in names)
    left = {name: -(-count * FORMATS[name].share // shares) for name in names}
    ends = dict(left)
    while any(left.values()):
        for name in names:
            size = min(BATCH, left[name])
            if size:
                yield name, range(ends[name] - left[name], ends[name] - left[name] + size)
            left[name] -= size


class Child:
    """A process that reads one batch."""

    def __init__(self, name: str, seed: int, numbers: range) -> None:
        self.name, self.numbers = name, numbers
        self.shared = mmap.mmap(-1, 24)
        self.faults, other = multiprocessing.Pipe(duplex=False)
        context = multiprocessing.get_context("fork")
        self.process = context.Process(target=read_batch, args=(name, seed, numbers, self.shared, other))
        self.process.start()
        other.close()

    def received(self) -> list[Fault]:
        """Return the faults told so far; a process that waits for a full pipe goes on."""
        told = []
        try:
            while self.faults.poll():
                told.append(self.faults.recv())
        except EOFError:
            pass
        return told

    def ended(self) -> tuple[int, int, Fault | None, range]:
        """Return the numbers of data and errors, the fault that ended the process, and the inputs left."""
        self.process.join()
        number, data, errors = struct.unpack("qqq", self.shared[:])
        if self.process.exitcode == 0:
            return data, errors, None, range(0)
        cause = {-signal.SIGPROF: f"computes for over {SECONDS:g} s", -signal.SIGALRM: f"waits for over {WAITING} s"}
        what = cause.get(self.process.exitcode or 0, f"the process ended with {self.process.exitcode}")
        return data, errors, Fault(self.name, number, what), range(number + 1, self.numbers.stop)


def fuzz(
    count: int, seed: int, processes: int, only: list[str]
) -> tuple[dict[str, collections.Counter[str]], list[Fault]]:
    """Return what became of the inputs of each format, and the faults."""
    counts = {name: collections.Counter() for name in only or FORMATS}
    waiting, faults, running = list(reversed(list(batches(count, only)))), [], {}
    while waiting or running:
        while waiting and len(running) < processes:
            child = Child(waiting[-1][0], seed, waiting.pop()[1])
            running[child.process.sentinel] = child
        done = wait([*running, *(child.faults for child in running.values() if not child.faults.closed)], timeout=1)
        for child in list(running.values()):
            faults += child.received()
            if child.process.sentinel not in done:
                continue
            del running[child.process.sentinel]
            data, errors, fault, left = child.ended()
            faults += child.received() + ([fault] if fault else [])
            counts[child.name].update({"data": data, "errors": errors, "inputs": len(child.numbers) - len(left)})
            if left:
                waiting.append((child.name, left))
    return counts, faults


def table(counts: dict[str, collections.Counter[str]], faults: list[Fault]) -> str:
    """Return the counts as lines of text."""
    rows = [("format", "inputs", "clear errors", "data", "faults")]
    by_name = collections.Counter(fault.format for fault in faults)
    total: collections.Counter[str] = collections.Counter()
    for name, count in counts.items():
        total.update(count)
        rows.append((name, *(f"{count[key]:,}" for key in ("inputs", "errors", "data")), f"{by_name[name]:,}"))
    rows.append(("all", *(f"{total[key]:,}" for key in ("inputs", "errors", "data")), f"{len(faults):,}"))
    return "\n".join(f"{row[0]:<14}" + "".join(f"{cell:>14}" for cell in row[1:]) for row in rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="5,000 inputs")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", nargs="+", choices=FORMATS, default=[], help="these formats")
    parser.add_argument("--number", type=int, help="one input alone, in this process, of the format that --only names")
    options = parser.parse_args()
    if options.number is not None:
        with tempfile.TemporaryDirectory() as folder:
            name = options.only[0]
            if FORMATS[name].prepare:
                FORMATS[name].prepare(Path(folder))
            print(one(name, options.seed, options.number, Path(folder)))
        return 0
    start = time.perf_counter()
    counts, faults = fuzz(5_000 if options.quick else options.inputs, options.seed, options.processes, options.only)
    print(table(counts, faults))
    for fault in faults[:20]:
        again = f"--seed {options.seed} --only {fault.format} --number {fault.number}"
        print(f"\n{again}\n  {fault.what}\n{fault.trace}")
    print(f"{time.perf_counter() - start:.0f} s with {options.processes} processes")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())

"""Train for long, and see whether anything grows: memory, open files, threads, objects.

    python tests/reliability/long_run.py --steps 20000

A network like LeNet-5 with dropout on batches that are augmented and loaded ahead, by Adam, with a validation after
every epoch and a checkpoint now and then. Memory is what the process has in RAM, less the history, which is meant to
grow: a record for each step. After the warm-up, a fifth of the steps, it must stay within 2 % of what it was, and the
other counts must not grow at all. `--quick` makes 2,000 steps with a small network. The exit status is 1 if something
grows.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import tempfile
import time
from dataclasses import astuple, dataclass
from pathlib import Path

for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):  # read when NumPy is imported
    os.environ.setdefault(name, "1")
sys.path.insert(0, str(Path(__file__).parents[2]))

ROWS = 20
MEMORY = 0.02  # by which it may grow


@dataclass
class Sample:
    """What the process has after a step; memory in bytes."""

    step: int
    memory: int
    history: int
    files: int
    threads: int
    objects: int


def sample(history) -> Sample:
    """Look at the process."""
    gc.collect()
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    files = len(os.listdir("/proc/self/fd"))
    threads = len(os.listdir("/proc/self/task"))  # also those that are not Python's
    # but these, and the records of the history, which not every Python counts
    objects = sum(
        1 for each in gc.get_objects() if type(each) is not Sample and not (type(each) is dict and "loss" in each)
    )
    return Sample(len(history.steps), resident, _size(history), files, threads, objects)


def _size(history) -> int:
    """Return the bytes of the records: their dictionaries, and the numbers that are theirs alone."""
    if not history.steps:
        return 0
    record = history.steps[-1]
    own = [record, record["step"], record["loss"], record["rate"]]
    return sys.getsizeof(history.steps) + len(history.steps) * sum(-(-sys.getsizeof(each) // 16) * 16 for each in own)


def train(steps: int, quick: bool, folder: Path) -> list[Sample]:
    """Train for so many steps and return the samples."""
    import minidl as ml
    from minidl import data, nn, optim, training
    from minidl.data import augment

    class Watch(training.Callback):
        def __init__(self):
            self.samples = []

        def on_step(self, trainer):
            if len(trainer.history.steps) % max(1, steps // ROWS) == 0:
                self.samples.append(sample(trainer.history))
                print(self.samples[-1], file=sys.stderr, flush=True)
            if len(trainer.history.steps) >= steps:
                trainer.stop("enough")

    ml.manual_seed(0)
    digits = data.load("digits", size=28)
    count, width = (400, 2) if quick else (len(digits.train_x), 6)
    changes = augment.compose(augment.crop(2), augment.rotate(10), augment.noise(0.02))
    loader = data.Loader(digits.train_x[:count], digits.train_y[:count], 16, seed=1, augment=changes)
    model = nn.Sequential(
        nn.Conv2d(1, width, 5, padding=2), nn.BatchNorm(width), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Dropout(0.25), nn.Dense(50 * width, 32), nn.ReLU(), nn.Dropout(0.5), nn.Dense(32, 10),
    )  # fmt: skip
    watch = Watch()
    callbacks = [watch, training.Checkpoint(folder / "run.safetensors", every_steps=max(1, steps // 50))]
    rate = optim.schedules.Cosine(0.001, steps)
    trainer = training.Trainer(model, optim.Adam(model, lr=rate), callbacks=callbacks, progress=False)
    validation = digits.test_x[:100], digits.test_y[:100]
    trainer.fit(loader, validation, epochs=1 + steps // len(loader))
    return watch.samples


def grown(samples: list[Sample]) -> list[str]:
    """Return what has grown since the warm-up."""
    warm = len(samples) // 5
    before, after = (max(each.memory - each.history for each in part) for part in (samples[:warm], samples[warm:]))
    faults = []
    if after > (1 + MEMORY) * before:
        faults.append(f"memory has grown by {after / before - 1:.1%}, more than {MEMORY:.0%}")
    for name in ("files", "threads", "objects"):
        counts = [getattr(each, name) for each in samples]
        if min(counts[-3:]) > max(counts[:warm]):  # a thread may be there or not, which makes the next batch
            faults.append(f"{name} have grown from {max(counts[:warm])} to {min(counts[-3:])}")
    return faults


def main(arguments: list[str] | None = None) -> int:
    """Train, print the table, and return the exit status."""
    from minidl import tables

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, help="20000, with --quick 2000")
    parser.add_argument("--quick", action="store_true", help="2,000 steps of a small network")
    options = parser.parse_args(arguments)
    steps = options.steps or (2000 if options.quick else 20000)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        samples = train(steps, options.quick, Path(folder))
    rows = []
    for each in samples:
        step, memory, history, *counts = astuple(each)
        sizes = [f"{size / 1e6:.1f}" for size in (memory, history, memory - history)]
        rows.append([f"{step:,}", *sizes, *map(str, counts)])
    headings = ("step", "in RAM, MB", "history, MB", "without it", "open files", "threads", "objects")
    print(tables.as_text(f"{steps:,} steps in {time.perf_counter() - began:.0f} s", headings, rows))
    faults = grown(samples)
    print("\n".join(faults) or f"nothing grows after step {samples[len(samples) // 5 - 1].step:,}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())

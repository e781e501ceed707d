"""The loader against PyTorch's DataLoader: `python -m benchmarks.loader [--quick]`, from the repository's root.

Passes over images of the size of CIFAR-10's with the same augmentation, a frame of 4 pixels, a window at a random place
and the mirror image of every second: minidl's Loader with its one thread, PyTorch's DataLoader with two processes, in
turn. And the milliseconds that each change of `data.augment` takes for a batch.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import report
from benchmarks.paired import compare
from minidl import data
from minidl.data import SampleGenerator, augment
from minidl.files import writable_folder

RESULTS = Path("benchmarks/results")
BATCH, PADDING, WORKERS = 128, 4, 2
LIMIT = 3.0  # milliseconds for a batch: that much a training step can always spare
NOTE = f"""A pass over {{count:,}} images 32×32×3 of the type uint8, shuffled, in batches of {BATCH}, each padded by
{PADDING} pixels, cut at a random place and mirrored with probability ½, as float32: the time of a batch. The
ratio is minidl's time over PyTorch's, below 1 where minidl is faster: the median and [least, largest] over
pairs of passes made in turn, in one process. minidl: `Loader(…, augment=augment.crop_flip(4))`. PyTorch:
`DataLoader(…, num_workers={WORKERS}, persistent_workers=True)` over a dataset that changes image by image, as
is usual, or over whole batches at once with what is the same arithmetic as minidl's. "with a model": between
two batches {{work}} ms of products of matrices."""
CHANGES = (
    f"The median, least and largest of the times for a batch of {BATCH} images 32×32×3, float32, by `data.augment`."
)


def torch_loader(pixels: Any, labels: Any, by_batch: bool) -> Any:
    """Return PyTorch's loader of the same batches."""
    import torch
    from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler

    images, classes = torch.from_numpy(pixels).movedim(-1, 1).contiguous(), torch.from_numpy(labels)

    class Images(Dataset):  # type: ignore[type-arg]
        def __len__(self) -> int:
            return len(images)

        def __getitem__(self, i: int) -> Any:
            x = torch.nn.functional.pad(images[i].float().div_(255), (PADDING,) * 4)
            down, right = torch.randint(0, 2 * PADDING + 1, (2,)).tolist()
            x = x[:, down : down + 32, right : right + 32]
            return (x.flip(2) if torch.rand(()) < 0.5 else x), classes[i]

    class Batches(Dataset):  # type: ignore[type-arg]
        def __len__(self) -> int:
            return len(images)

        def __getitem__(self, rows: list[int]) -> Any:
            x = torch.nn.functional.pad(images[rows].float().div_(255), (PADDING,) * 4)
            count = len(rows)
            down, right = torch.randint(0, 2 * PADDING + 1, (2, count, 1))
            columns = right + torch.arange(32)
            columns = torch.where(torch.rand(count, 1) < 0.5, columns.flip(1), columns)
            lines = down + torch.arange(32)
            image = torch.arange(count)[:, None, None]
            return x.movedim(1, -1)[image, lines[:, :, None], columns[:, None, :]], classes[rows]

    common: dict[str, Any] = {"num_workers": WORKERS, "persistent_workers": True}
    if by_batch:
        dataset: Any = Batches()
        sampler = BatchSampler(RandomSampler(dataset), BATCH, drop_last=False)
        return DataLoader(dataset, sampler=sampler, batch_size=None, **common)
    return DataLoader(Images(), batch_size=BATCH, shuffle=True, **common)


def one_pass(loader: Any, model: Callable[[], Any] | None = None) -> Callable[[], int]:
    """Return a function that goes through all batches, as a training would."""

    def go() -> int:
        images = 0
        for x, _ in loader:
            images += len(x)
            if model is not None:
                model()
        return images

    return go


def some_work() -> tuple[Callable[[], Any], float]:
    """Return products of matrices, and the milliseconds that they take."""
    a = np.random.default_rng(0).random((700, 700), dtype=np.float32)
    return lambda: a @ a @ a, 1e3 * statistics.median(timed(lambda: a @ a @ a, 9))


def timed(function: Callable[[], Any], times: int) -> list[float]:
    function()
    seconds = []
    for _ in range(times):
        began = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - began)
    return seconds


def loaders(count: int, pairs: int) -> tuple[report.Table, list[dict[str, Any]]]:
    rng = np.random.default_rng(0)
    pixels, labels = rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8), rng.integers(0, 10, count)
    ours = data.Loader(pixels, labels, BATCH, augment=augment.crop_flip(PADDING))
    model, milliseconds = some_work()
    rows = []
    for by_batch in (False, True):
        theirs = torch_loader(pixels, labels, by_batch)
        for work, name in ((None, "the loader alone"), (model, "with a model")):
            passes = one_pass(ours, work), one_pass(theirs, work)
            if passes[0]() != passes[1]():
                raise RuntimeError("minidl and PyTorch loaded different numbers of images")
            row = compare(*passes, pairs=pairs, block_seconds=0.2, per_call=len(ours))
            rows.append({"case": f"{name}, PyTorch {'by batch' if by_batch else 'by image'}", **row})
        del theirs, passes  # its processes end
    lines = [
        [
            row["case"], report.duration(row["ours"]), report.duration(row["theirs"]),
            f"{BATCH / row['ours']:,.0f}", f"{BATCH / row['theirs']:,.0f}",
            f"{row['median']:.2f} [{row['min']:.2f}, {row['max']:.2f}]",
        ]
        for row in rows
    ]  # fmt: skip
    columns = ["case", "minidl", "PyTorch", "minidl, images / s", "PyTorch, images / s", "ratio"]
    note = " ".join(NOTE.format(count=count, work=round(milliseconds)).split())
    return report.Table("Loading", note, columns, lines), rows


def changes(times: int) -> tuple[report.Table, dict[str, list[float]]]:
    from minidl.viz.augmentations import examples

    x = np.random.default_rng(0).random((BATCH, 32, 32, 3), dtype=np.float32)
    y, found = np.arange(BATCH) % 10, {}
    for name, change in examples(10).items():
        arguments = (x, y) if name in augment.BLENDS else (x,)
        found[name] = timed(lambda c=change, a=arguments: c(*a, SampleGenerator(0, 0, range(BATCH))), times)
    lines = [
        [name, *(report.duration(value) for value in (statistics.median(s), min(s), max(s)))]
        for name, s in found.items()
    ]
    return report.Table("Augmentation", CHANGES, ["change", "median", "least", "largest"], lines), found


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the tables and write them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loader", description="Loaders, and augmentation.")
    parser.add_argument("--quick", action="store_true", help="a rough look; writes nothing by default")
    parser.add_argument("--out", type=Path, metavar="DIR", help=f"folder for the results (default: {RESULTS})")
    options = parser.parse_args(arguments)
    if importlib.util.find_spec("torch") is None:
        sys.exit('benchmarks.loader: PyTorch is not installed: pip install ".[bench]"')
    import torch

    folder = options.out or (None if options.quick else RESULTS)
    if folder is not None:
        writable_folder(folder, "--out")
    by_change, seconds = changes(5 if options.quick else 21)
    loading, rows = loaders(2560, 3) if options.quick else loaders(5120, 7)
    for table in (loading, by_change):
        report.show(table)
    median = 1e3 * statistics.median(seconds["crop_flip"])
    print(
        f"crop_flip: {median:.2f} ms for a batch of {BATCH}, {'within' if median < LIMIT else 'NOT within'} {LIMIT} ms"
    )
    if folder is not None:
        facts = report.environment("benchmarks.loader", {"PyTorch": torch.__version__})
        content = {"loaders": rows, "changes": seconds}
        print(
            "wrote", *report.write(folder / "loader", "Loading and augmentation", [loading, by_change], facts, content)
        )


if __name__ == "__main__":
    main()

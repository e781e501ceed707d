"""CIFAR's binary version: records of one label byte (CIFAR-100: coarse, then fine), then planes of red, green, blue."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from minidl import threads
from minidl.data import checks, compressed
from minidl.data.sources import Source


def load(source: Source, paths: dict[str, Path]) -> tuple[Any, Any, Any, Any]:
    """Return (train_x, train_y, test_x, test_y) from the batches, or from the archive that holds them.

    Batches go to their place as they are read, so that there is never much more than the images themselves. The labels
    of CIFAR-100 are the fine ones.

    Raises
    ------
    ValueError
        If a file is truncated or not compressed as its name says, does not hold whole records, or as many as it should,
        or holds a label that there is not.
    """
    *training, testing = source.parts
    train_x = np.empty((source.train, *source.shape), np.uint8)  # the system gives memory when it is written to
    test_x = np.empty((source.test, *source.shape), np.uint8)
    room = dict(zip(training, np.split(train_x, len(training)), strict=True)) | {testing: test_x}
    limits = {part: len(images) * _record(source) for part, images in room.items()}

    def store(part: str, content: bytes, path: Path) -> Any:
        images, labels = parse(content, source, path if path.name.startswith(part) else f"{part} in {path}")
        if source.exact and len(labels) != len(room[part]):
            advice = f"; a subset belongs into the folder {source.subset.name}" if source.subset else ""
            raise ValueError(f"data.load: {path} holds {len(labels):,} images, expected {len(room[part]):,}{advice}")
        room[part][: len(images)] = images
        return labels

    if source.archive in paths:
        path = paths[source.archive]
        labels = {part: store(part, content, path) for part, content in compressed.members(path, limits)}
    else:
        labels, parts = {}, list(paths)
        for pair in (parts[i : i + 2] for i in range(0, len(parts), 2)):  # no more at once: each takes memory
            read = lambda part: store(part, compressed.read(paths[part], limits[part]), paths[part])
            labels |= zip(pair, threads.share(read, pair), strict=True)
    train_y, test_y = np.concatenate([labels[part] for part in training]), labels[testing]
    return train_x[: len(train_y)], train_y, test_x[: len(test_y)], test_y


def parse(content: bytes, source: Source, path: object) -> tuple[Any, Any]:
    """Return (images, labels) of the records in the bytes of a batch; `path` is for the messages."""
    record = _record(source)
    count, rest = divmod(len(content), record)
    if rest or not count:
        raise ValueError(
            f"data.load: {path} is truncated or no batch of {source.name}: it has {len(content):,} bytes, expected a "
            f"multiple of {record:,}"
        )
    records = np.frombuffer(content, np.uint8).reshape(count, record)
    height, width, channels = source.shape
    first_pixel = record - math.prod(source.shape)
    images = records[:, first_pixel:].reshape(count, channels, height, width).transpose(0, 2, 3, 1)
    labels = records[:, first_pixel - 1].astype(np.int64)
    return images, checks.labels(labels, len(source.classes), f"data.load: {path}")


def _record(source: Source) -> int:
    """Return the bytes of a record: with a coarse label before the fine one where there are 100 classes."""
    return math.prod(source.shape) + (2 if len(source.classes) == 100 else 1)

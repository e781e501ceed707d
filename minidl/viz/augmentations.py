"""Contact sheets of augmentation: the originals beside what a change makes of them."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from minidl.backend import check_seed, to_numpy
from minidl.data import augment, load
from minidl.data.generator import SampleGenerator
from minidl.viz.style import HEADER, INK, QUIET, save, titled_figure

STRENGTHS = (1 / 3, 2 / 3, 1.0)
CELL, GAP, MARGIN = 0.95, 0.06, 0.2  # inches
LABEL = 2.3  # for the words on the left
COLUMNS, DRAWS = 10, 8
EXAMPLES: dict[str, dict[str, Any]] = {  # settings at which one sees what the change is about
    "affine": {"degrees": 15.0, "scale": 0.2, "shift": 0.1, "shear": 15.0},
    "rotate": {"degrees": 30.0},
    "flip": {"p": 1.0},
    "shuffle_channels": {"p": 1.0},
    "erase": {"p": 1.0},
    "blur": {"sigma": 1.5},
    "elastic": {"alpha": 2.0},
    "mixup": {"alpha": 4.0},
}


def augmentation(x: Any, change: Any, y: Any = None, *, seed: int = 0, title: str = "Augmentation") -> Figure:
    """Draw images, and below each what a change makes of it at a third, two thirds and all of its strength.

    Each column has the same random numbers, so that downwards only the strength grows.

    Parameters
    ----------
    x : (N, H, W, 1 or 3) array
        Of the type uint8 or floats in [0, 1]; the first ten are shown.
    change : callable
        One of `data.augment`, also a blend, or any other, which is then shown at its one strength.
    y : (N,) integers, optional
        The classes, which a blend needs.
    seed : int, default 0

    Returns
    -------
    matplotlib.figure.Figure
        `viz.save` writes it.
    """
    x = _images(x)[:COLUMNS]
    scaled = _scaled(change)
    rows = [("original", "", list(x))]
    for strength, changed in scaled:
        made = _made(changed, x, y, SampleGenerator(seed, 0, np.arange(len(x))))
        rows.append((f"{strength:.0%} of the strength" if strength else "changed", _said(changed), list(made)))
    return _sheet(rows, title, f"{len(x)} images, seed {seed}; in a column the random numbers are the same")


def augmentations(
    x: Any, changes: Mapping[str, Any], y: Any = None, *, seed: int = 0, title: str = "Augmentation"
) -> Figure:
    """Draw a row for each change: an image, and eight times what the change makes of it, in eight epochs.

    Parameters
    ----------
    x : (N, H, W, 1 or 3) array
        Of the type uint8 or floats in [0, 1]; each change takes the next of them.
    changes : mapping of str to callable
        Of `data.augment`, by what they are to be called; blends too, with `y`.
    y : (N,) integers, optional
        The classes, which a blend needs.
    seed : int, default 0

    Returns
    -------
    matplotlib.figure.Figure
        `viz.save` writes it.
    """
    x = _images(x)
    rows = []
    for row, (name, change) in enumerate(changes.items()):
        i = row % len(x)
        batch = (i + np.arange(DRAWS)) % len(x)  # the others are there for blends
        labels = None if y is None else np.asarray(y)[batch]
        epochs = [_made(change, x[batch], labels, SampleGenerator(seed, epoch, batch))[0] for epoch in range(DRAWS)]
        rows.append((name, _said(change), [x[i], *epochs]))
    return _sheet(rows, title, f"Left the original, then the image in {DRAWS} epochs, seed {seed}", apart=True)


def show(
    name: str, text: str, out: str | os.PathLike[str], *, root: str | os.PathLike[str] | None = None, seed: int = 0
) -> Path:
    """Write a picture of what changes make of a dataset's training images, and return its path.

    Parameters
    ----------
    name : str
        Of the dataset, as for `data.load`.
    text : str
        The changes, as in "crop(4), flip, rotate(10)", or "all" for a row for each one that there is.
    out : path
        Of the picture; its ending says the format.
    root : path, optional
        As for `data.load`.
    seed : int, default 0

    Raises
    ------
    ValueError
        If the text is not understood, the seed is negative or the ending no format's, before anything is loaded.
    """
    check_seed(seed, "data show")
    formats = Figure().canvas.get_supported_filetypes()
    if Path(out).suffix.lower().removeprefix(".") not in formats:
        raise ValueError(
            f"data show: out is {os.fspath(out)!r}, expected an ending that is one of {', '.join(formats)}"
        )
    change = None if text.strip() == "all" else augment.parse(text)
    dataset = load(name, root) if name != "digits" else load(name, size=32)
    y = dataset.train_y[:2000]
    # one image of each class in turn, so that neighbours differ
    turn = np.argsort([np.count_nonzero(y[:i] == label) for i, label in enumerate(y)], kind="stable")
    x, y = dataset.train_x[turn[:40]], y[turn[:40]]
    title = f"Augmentation of {name}"
    if change is not None:
        figure = augmentation(x, change, seed=seed, title=title)
    else:
        figure = augmentations(x, examples(len(dataset.classes)), y, seed=seed, title=title)
    return save(figure, out)


def examples(classes: int) -> dict[str, Any]:
    """Return every change and blend that there is, at a strength at which one sees it."""
    changes: dict[str, Any] = {name: change(**EXAMPLES.get(name, {})) for name, change in augment.CHANGES.items()}
    return changes | {name: blend(classes, **EXAMPLES.get(name, {})) for name, blend in augment.BLENDS.items()}


def _images(x: Any) -> Any:
    x = to_numpy(x)
    if np.ndim(x) != 4 or x.shape[-1] not in (1, 3) or len(x) == 0:
        raise ValueError(f"augmentations: x has shape {np.shape(x)}, expected images (N, H, W, 1 or 3)")
    return x / np.float32(255) if x.dtype == np.uint8 else x.astype(np.float32)


def _scaled(change: Any) -> list[tuple[float, Any]]:
    """Return the change at several strengths, or as it is if it has none."""
    changes: Any = change.changes if isinstance(change, augment.compose) else (change,)
    if not any(isinstance(part, augment.Change) and part.strengths for part in changes):
        return [(0.0, change)]
    return [(strength, change.times(strength)) for strength in STRENGTHS]


def _made(change: Any, x: Any, y: Any, generator: Any) -> Any:
    if type(change) in augment.BLENDS.values():
        if y is None:
            raise ValueError(f"augmentations: {change} is a blend and needs y, the classes")
        return change(x, y, generator)[0]
    return to_numpy(change(x, generator))


def _said(change: Any) -> str:
    return str(change) if isinstance(change, augment.Change) else repr(change)


def _sheet(rows: Sequence[tuple[str, str, list[Any]]], title: str, subtitle: str, apart: bool = False) -> Figure:
    """Return rows of images with words on the left; the first image stands apart if that is asked for."""
    columns = max(len(images) for _, _, images in rows)
    first = 3 * GAP if apart else 0
    width = 2 * MARGIN + LABEL + columns * (CELL + GAP) + first
    height = HEADER + len(rows) * (CELL + GAP) + MARGIN
    figure = titled_figure(width, height, title, subtitle)
    figure.set_layout_engine("none")  # every place is known, in inches
    axes = figure.add_axes((0, 0, 1, 1))  # one for all images: one for each would take seconds
    axes.set_axis_off()
    for line, (name, settings, images) in enumerate(rows):
        top = HEADER + line * (CELL + GAP)
        middle = 1 - (top + CELL / 2) / height
        told = textwrap.fill(settings, 32)
        figure.text(
            MARGIN / width, middle + 0.04 / height, name, fontsize=10, fontweight="bold", color=INK, va="bottom"
        )
        figure.text(MARGIN / width, middle - 0.02 / height, told, fontsize=7.5, color=QUIET, va="top")
        for column, image in enumerate(images):
            left = MARGIN + LABEL + column * (CELL + GAP) + (first if column else 0)
            box = (left, left + CELL, top + CELL, top)
            pixels = image.clip(0, 1).squeeze(axis=2) if image.shape[2] == 1 else image.clip(0, 1)
            axes.imshow(pixels, cmap="gray", vmin=0, vmax=1, interpolation="nearest", extent=box, aspect="auto")
    axes.set(xlim=(0, width), ylim=(height, 0))
    return figure

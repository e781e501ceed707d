"""Contact sheets of samples to look at: those with large losses, and duplicates."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from minidl.backend import to_numpy
from minidl.data import Duplicates
from minidl.training import Suspects
from minidl.viz.style import ACCENT, HEADER, INK, OTHER, QUIET, titled_figure

COLUMNS = 8
CELL, SIDE, ABOVE = (1.25, 1.62), 1.05, 0.34  # inches: of a place, an image, the words above it
LONGEST = 13  # letters of a class's name


def suspects(
    found: Suspects | Duplicates, x: Any, classes: Iterable[str] = (), *, most: int = 40, title: str | None = None
) -> Figure:
    """Draw samples that were found suspicious, as images.

    Of `Suspects` each with its label, the class that the model gives it, and its loss, the largest first; of
    `Duplicates` the images of a group beside each other on one line, groups with different labels first, and in such a
    group an image of each label before the others.

    Parameters
    ----------
    found : training.Suspects or data.Duplicates
    x : (N, H, W, C) array
        The images that were searched, uint8 or floating-point in [0, 1], of one channel or three.
    classes : sequence of str, optional
        The classes' names; by default those in `found`, or the numbers. Labels that are no integers are names already.
    most : int, default 40
        How many images to draw. A sheet without some of the samples or groups says how many it shows.
    title : str, optional

    Raises
    ------
    ValueError
        If nothing was found, or x is not what was searched.
    """
    x = np.asarray(to_numpy(x))
    if x.ndim != 4 or x.shape[3] not in (1, 3) or len(x) != found.count:
        expected = f"the {found.count} images that were searched, (N, H, W, 1 or 3)"
        raise ValueError(f"suspects: x has shape {x.shape}, expected {expected}")
    if not isinstance(most, (int, np.integer)) or most < 1:
        raise ValueError(f"suspects: most is {most!r}, expected a positive integer")
    classes = [str(name) for name in classes]
    if isinstance(found, Suspects):
        number, what, places = len(found.indices), "samples", list(_hardest(found, classes, most))
        heading = f"{number:,} of {found.count:,} samples with the largest losses"
        explanation = "above: the label, and the model's class with its probability; below: the sample and its loss"
    else:
        number, what, places = len(found.groups), "groups", list(_groups(found, classes, most))
        heading = f"{number:,} groups of duplicates, {len(found.surplus):,} of {found.count:,} images too many"
        explanation = "a line joins the images of a group; below: the image, and how the group's images correlate"
    if not places:
        raise ValueError("suspects: nothing was found, so there is nothing to draw")
    drawn = sum(not place["joined"] for place in places)  # of a group the last image is joined to none
    fewest = 6  # columns that are as wide as the header
    if drawn < number:
        explanation = f"drawn: {drawn:,} of {number:,} {what}; {explanation}"
        fewest = 7
    columns = min(COLUMNS, max(fewest, len(places)))
    rows = max(place["row"] for place in places) + 1
    width, height = columns * CELL[0] + 0.2, rows * CELL[1] + HEADER + 0.1
    figure = titled_figure(width, height, title or heading, explanation)
    figure.set_layout_engine("none")  # the places are counted in inches
    for place in places:
        left, top = 0.2 + place["column"] * CELL[0], height - HEADER - place["row"] * CELL[1] - ABOVE
        axes = figure.add_axes((left / width, (top - SIDE) / height, SIDE / width, SIDE / height))
        _draw(axes, x[place["index"]], place)
    return figure


def _hardest(found: Suspects, classes: Sequence[str], most: int) -> Iterator[dict[str, Any]]:
    """Yield what stands in each place of the sheet."""
    names = classes or found.classes
    for i, index in enumerate(found.indices[:most]):
        label, prediction = found.labels[i], found.predictions[i]
        yield {
            "index": index,
            "row": i // COLUMNS,
            "column": i % COLUMNS,
            "above": (_name(names, label), f"→ {_name(names, prediction)} {found.confidences[i]:.0%}"),
            "accent": label != prediction,
            "below": f"{index}   {found.losses[i]:.3g}",
            "joined": False,
        }


def _groups(found: Duplicates, classes: Sequence[str], most: int) -> Iterator[dict[str, Any]]:
    """Yield what stands in each place of the sheet; a group begins a new row where it would not fit in this one."""
    conflicts = set(found.conflicts)
    row = column = drawn = 0
    for i in sorted(range(len(found.groups)), key=lambda i: i not in conflicts):
        group = (_each_label_first(found, i) if i in conflicts else found.groups[i])[:COLUMNS]
        if drawn + len(group) > most and drawn:
            return
        if column + len(group) > COLUMNS:
            row, column = row + 1, 0
        more = len(found.groups[i]) - len(group)
        for j, index in enumerate(group):
            last = j == len(group) - 1
            likeness = ("equal" if found.exact[i] else f"{found.similarity[i]:.3f}") if j == 0 else ""
            yield {
                "index": index,
                "row": row,
                "column": column + j,
                "above": ("" if found.labels is None else _name(classes, found.labels[index]), ""),
                "accent": i in conflicts,
                "below": f"{index}   {f'{more} more' if last and more else likeness}".rstrip(),
                "joined": not last,
            }
        column += len(group)
        drawn += len(group)


def _each_label_first(found: Duplicates, group: int) -> list[Any]:
    """Return the indices of a group's images: the first of every label, then the others."""
    indices = found.groups[group]
    backwards = indices[::-1]  # so that the first of a label is the last to be entered
    firsts = set(dict(zip(found.labels[backwards].tolist(), backwards, strict=True)).values())
    return sorted(indices, key=lambda index: index not in firsts)


def _draw(axes: Any, image: Any, place: dict[str, Any]) -> None:
    brightest = 255 if image.dtype == np.uint8 else 1
    shown = image[..., 0] if image.shape[-1] == 1 else image
    if shown.dtype != np.uint8:
        shown = shown.clip(0, 1)
    axes.imshow(shown, cmap="gray", vmin=0, vmax=brightest, interpolation="nearest")
    axes.set_axis_off()
    upper, lower = place["above"]
    style = {"transform": axes.transAxes, "parse_math": False}  # a name may hold dollars
    first, second = (INK, OTHER if place["accent"] else QUIET) if lower else (OTHER if place["accent"] else INK, QUIET)
    axes.text(0, 1.19 if lower else 1.05, upper, **style, fontsize=8, fontweight="bold", color=first)
    axes.text(0, 1.05, lower, **style, fontsize=7.5, color=second)
    axes.text(0, -0.05, place["below"], **style, fontsize=7.5, color=QUIET, va="top")
    if place["joined"]:
        across = [1.0, CELL[0] / SIDE]
        axes.plot(across, [0.5, 0.5], transform=axes.transAxes, color=ACCENT, linewidth=2.5, clip_on=False)


def _name(names: Sequence[str], label: Any) -> str:
    named = isinstance(label, (int, np.integer)) and 0 <= label < len(names)
    name = str(names[label] if named else label)
    return name if len(name) <= LONGEST else name[: LONGEST - 1] + "…"

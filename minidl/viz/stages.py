"""The stages of progressive sharpening: learning curves over them, and what an image looks like in each."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import ConnectionPatch

from minidl.backend import to_numpy
from minidl.data import sharpening
from minidl.trials import TrialCurves, of_one_length
from minidl.viz.parameter_sweep import LOOKS
from minidl.viz.style import FAINT, HEADER, INK, QUIET, plain, titled_figure
from minidl.viz.trials import accuracy_axis, draw_trials, epoch_axis

IMAGES = 9  # at most
SIDE = 0.95  # inches, of an image


def sharpening_stages(
    trials: Sequence[TrialCurves],
    blurs: Sequence[int],
    image: Any,
    title: str,
    subtitle: str,
    ylabel: str = "test accuracy",
    *,
    mode: str = "reflect",
) -> Figure:
    """Draw learning curves over the stages of progressive sharpening, and above them an image as each stage has it. S.

    Each curve is the mean of the trials, with a band from the lowest to the highest; trials that diverged end in a
    cross. A stage is the darker the more it is blurred. Of more than nine stages nine have an image.

    Parameters
    ----------
    trials : sequence of TrialCurves
        The recipe with the stages first, then up to five to compare it with.
    blurs : sequence of int
        For each epoch the width n of the blur in pixels, 1 for the originals: as "blur" in the history of a run with
        `training.ProgressiveSharpening`.
    image : (H, W, 1 or 3) array
        A training image, uint8 or floats in [0, 1].
    title, subtitle : str
    ylabel : str, default "test accuracy"
    mode : str, default "reflect"
        What lies beyond the image's border, as in the training: see `data.sharpening.blur`.

    Raises
    ------
    ValueError
        If there are no trials or more than six recipes, fewer blurs than epochs, a blur is wider than the image, or the
        image is none.
    """
    image = to_numpy(image)
    trials = of_one_length(trials)
    if not 1 <= len(trials) <= len(LOOKS):
        raise ValueError(f"sharpening_stages: trials has {len(trials)} recipes, expected 1 to {len(LOOKS)}")
    epochs = max(recipe.longest for recipe in trials)
    if len(blurs) < max(1, epochs):
        raise ValueError(f"sharpening_stages: blurs has {len(blurs)} numbers, expected one for each of {epochs} epochs")
    if image.ndim != 3 or image.shape[2] not in (1, 3):
        raise ValueError(f"sharpening_stages: image has shape {image.shape}, expected (H, W, 1 or 3)")
    stages = _stages(blurs)
    chosen = np.unique(np.linspace(0, len(stages) - 1, min(IMAGES, len(stages))).round().astype(int))
    pictures = {n: sharpening.blur(image[None], n, mode)[0] for n in {stages[i][0] for i in chosen}}

    figure = titled_figure(10.2, SIDE + 4.4 + HEADER, title, subtitle)
    grid = figure.add_gridspec(3, 1, height_ratios=(SIDE + 0.3, 0.3, 3.4))  # between them room for the lines
    axes = plain(figure.add_subplot(grid[2]))
    _shade(axes, stages)
    for recipe, (color, _) in zip(trials, LOOKS, strict=False):
        draw_trials(axes, recipe, color)
    epoch_axis(axes, len(blurs))
    accuracy_axis(axes.yaxis)
    axes.set_xlim(0.5, len(blurs) + 0.5)
    axes.set_ylabel(ylabel, fontsize=8.5, color=INK)
    strip = grid[0].subgridspec(1, len(chosen))
    for place, i in enumerate(chosen):
        n, first, last = stages[i]
        small = figure.add_subplot(strip[place])
        _show(small, pictures[n], "original" if n == 1 else f"{n} × {n}")
        figure.add_artist(
            ConnectionPatch(
                (0.5, -0.03), ((first + last) / 2, 1.0), small.transAxes, axes.get_xaxis_transform(),
                color=FAINT, linewidth=1,
            )
        )  # fmt: skip
    _legend(figure, trials)
    return figure


def _stages(blurs: Sequence[int]) -> list[tuple[int, int, int]]:
    """Return for each stage its blur and its first and last epoch."""
    stages, first = [], 1
    for n, epochs in groupby(blurs):
        last = first + len(list(epochs)) - 1
        stages.append((int(n), first, last))
        first = last + 1
    return stages


def _shade(axes: Any, stages: Sequence[tuple[int, int, int]]) -> None:
    """Shade each stage by its blur, white for the originals; its epochs' points lie within it."""
    widest = max(n for n, _, _ in stages)
    for n, first, last in stages:
        depth = 0.0 if widest == 1 else (n - 1) / (widest - 1)
        axes.axvspan(first - 0.5, last + 0.5, color=QUIET, alpha=0.28 * depth, linewidth=0, zorder=0)


def _show(axes: Any, image: Any, words: str) -> None:
    shown = image[..., 0] if image.shape[-1] == 1 else image
    if shown.dtype != np.uint8:
        shown = shown.clip(0, 1)
    axes.imshow(shown, cmap="gray", vmin=0, vmax=255 if shown.dtype == np.uint8 else 1, interpolation="nearest")
    axes.set_axis_off()
    axes.set_title(words, fontsize=9, color=INK, pad=3)


def _legend(figure: Figure, trials: Sequence[TrialCurves]) -> None:
    handles = []
    for recipe, (color, _) in zip(trials, LOOKS, strict=False):
        found = recipe.estimate("final")
        words = recipe.name + (f": {found.percent()} % after the last epoch" if found else ": diverged")
        lost = f" ({len(recipe.diverged)} of {len(recipe.curves)} diverged)" * bool(recipe.diverged and found)
        handles.append(Line2D([], [], color=color, linewidth=2, label=words + lost))
    legend = figure.legend(
        handles=handles, loc="outside lower left", ncols=2, fontsize=8.5, frameon=False, labelcolor=INK
    )
    for text in legend.get_texts():
        text.set_parse_math(False)

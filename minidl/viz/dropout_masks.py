"""What layers of the dropout family do to one image: some draws, their mean, and what evaluation makes of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from minidl import nn
from minidl.backend import asarray, to_numpy
from minidl.graph import no_grad
from minidl.ops.arguments import positive_integer
from minidl.tensor import Tensor
from minidl.viz.style import FAINT, HEADER, INK, OTHER, QUIET, titled_figure

CELL, GAP, MARGIN, BELOW = 1.15, 0.12, 0.2, 0.24  # inches
LABEL = 2.0  # for the words on the left
HEADS = 0.25
BLOCK = 64  # copies of the image that go through a layer together
COLOURS = LinearSegmentedColormap.from_list("signed", [OTHER, "white", INK])


@no_grad()
def dropout_masks(
    image: Any,
    layers: Mapping[str, nn.Module],
    *,
    draws: int = 3,
    average: int = 512,
    title: str = "What dropout does",
) -> Figure:
    """Draw a row for each layer: an image, some draws in training, the mean of many, and the output in evaluation.

    Zero is white, positive values are dark, negative ones orange; a row has one scale, and below each picture stand its
    mean and its standard deviation. Channels lie beside each other in one picture. Where the mean of the draws looks
    like the evaluation, the layer keeps its mean.

    Parameters
    ----------
    image : (H, W, C) array
        Feature maps, of floating-point numbers.
    layers : mapping of str to nn.Module
        By what they are to be called. They draw from their own generators, or from the thread's (`ml.manual_seed`);
        their modes are afterwards as before.
    draws : int, default 3
        How many outputs in training are shown.
    average : int, default 512
        Of how many the mean is taken.
    title : str

    Raises
    ------
    ValueError
        If `image` is not of three axes, or there are no layers.
    """
    image = to_numpy(image)
    if image.ndim != 3 or image.size == 0 or not layers:
        raise ValueError(f"dropout_masks: image has shape {image.shape} for {len(layers)} layers, expected (H, W, C)")
    positive_integer(draws, "dropout_masks", "draws")
    positive_integer(average, "dropout_masks", "average")
    heads = ("input", *(f"training, draw {i + 1}" for i in range(draws)), f"mean of {average:,}", "evaluation")
    rows = {name: [image, *_outputs(layer, image, draws, average)] for name, layer in layers.items()}
    width = 2 * MARGIN + LABEL + len(heads) * (CELL + GAP)
    height = HEADER + HEADS + len(rows) * (CELL + BELOW) + MARGIN
    subtitle = "white is 0, dark above 0, orange below; under each picture its mean ± its standard deviation"
    figure = titled_figure(width, height, title, subtitle)
    figure.set_layout_engine("none")  # every place is known, in inches
    for column, head in enumerate(heads):
        left = MARGIN + LABEL + column * (CELL + GAP)
        figure.text(left / width, 1 - HEADER / height, head, fontsize=8.5, color=INK, va="top")
    for line, (name, pictures) in enumerate(rows.items()):
        top = HEADER + HEADS + line * (CELL + BELOW)
        label = figure.text(MARGIN / width, 1 - (top + CELL / 2) / height, name, fontsize=10, color=INK, va="center")
        label.set(fontweight="bold", parse_math=False)
        largest = max(float(abs(picture).max()) for picture in pictures) or 1.0
        for column, picture in enumerate(pictures):
            left = MARGIN + LABEL + column * (CELL + GAP)
            axes = figure.add_axes((left / width, 1 - (top + CELL) / height, CELL / width, CELL / height))
            axes.imshow(_mosaic(picture), cmap=COLOURS, vmin=-largest, vmax=largest, interpolation="nearest")
            axes.set_facecolor(FAINT)
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set(color=FAINT)
            told = f"{picture.mean():.2f} ± {picture.std():.2f}"
            axes.text(0.5, -0.04, told, transform=axes.transAxes, fontsize=7.5, color=QUIET, ha="center", va="top")
    return figure


def _outputs(layer: nn.Module, image: Any, draws: int, average: int) -> list[Any]:
    """Return some outputs in training, the mean of many, and the output in evaluation."""
    copies = np.repeat(image[None], min(BLOCK, average), axis=0)

    def output(images: Any) -> Any:
        return to_numpy(nn.main_output(layer(Tensor(asarray(images)))).data)

    with nn.evaluating(layer):
        evaluation = output(image[None])[0]
        layer.train()
        shown = [output(image[None])[0] for _ in range(draws)]
        blocks = [output(copies[: average - first]).sum(axis=0, dtype=np.float64) for first in range(0, average, BLOCK)]
    return [*shown, np.sum(blocks, axis=0) / average, evaluation]


def _mosaic(maps: Any) -> Any:
    """Return the channels beside each other, with a line of nothing between them."""
    height, width, channels = maps.shape
    columns = math.ceil(math.sqrt(channels))
    rows = math.ceil(channels / columns)
    made = np.full((rows * (height + 1) - 1, columns * (width + 1) - 1), np.nan)
    for channel in range(channels):
        top, left = channel // columns * (height + 1), channel % columns * (width + 1)
        made[top : top + height, left : left + width] = maps[..., channel]
    return made

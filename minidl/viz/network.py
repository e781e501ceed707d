"""What is inside a network: its filters, what its layers make of an image, its weights and gradients by layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from minidl import nn
from minidl.backend import asarray, to_numpy
from minidl.graph import no_grad
from minidl.ops.arguments import positive_integer
from minidl.viz.style import ACCENT, FAINT, HEADER, INK, OTHER, QUIET, plain, titled_figure

SIGNED = LinearSegmentedColormap.from_list("signed", (OTHER, "white", ACCENT))  # negative, zero, positive
TILE = 0.82  # inches, of a filter or a map
NAME = 1.75  # inches, of a layer's name and shape beside its maps
BINS = 61


def filters(layer: nn.Module, title: str = "", subtitle: str = "", *, most: int = 16) -> Figure:
    """Draw the filters of a convolution: a column for each filter, and in it a tile for each input channel.

    Blue is positive, orange negative, white 0; all tiles have the same scale. Filters of three input channels are
    shown as colours instead, gray for 0, a single tile each.

    Parameters
    ----------
    layer : nn.Module
        A convolution, or a model, of which the first convolution is taken.
    title, subtitle : str
        Default: which layer, and how many filters are shown.
    most : int, default 16
        Of the filters and of the input channels so many are shown.

    Raises
    ------
    ValueError
        If there is no convolution.
    """
    positive_integer(most, "filters", "most")
    name, W = _convolution(layer)
    reach = float(np.abs(W).max()) or 1.0
    colored = W.shape[2] == 3
    columns, rows = min(most, W.shape[3]), 1 if colored else min(most, W.shape[2])
    inputs = "inputs" if W.shape[2] > 1 else "input"
    shown = "" if (columns, rows) == (W.shape[3], W.shape[2]) or colored else f"; drawn: {columns} × {rows}"
    explanation = "colours of the image's channels, gray: 0" if colored else f"blue: up to {reach:.2g}, orange: below 0"
    heading = f"The filters of {name}" if name else "The filters"
    per_row = min(columns, 8) if rows == 1 else columns  # single tiles are wrapped
    lines = rows if rows > 1 else -(-columns // per_row)
    width = max(TILE * per_row + 0.2, 5.4)
    figure = titled_figure(
        width, TILE * lines + HEADER + 0.15, title or heading,
        subtitle or f"{W.shape[3]} filters of {W.shape[0]} × {W.shape[1]}, {W.shape[2]} {inputs}{shown}; {explanation}",
    )  # fmt: skip
    for column in range(columns):
        for row in range(rows):
            place = (row, column) if rows > 1 else divmod(column, per_row)
            axes = _tile(figure, *place)
            if colored:
                axes.imshow(0.5 + 0.5 * W[..., column] / reach, interpolation="nearest")
            else:
                axes.imshow(W[..., row, column], cmap=SIGNED, vmin=-reach, vmax=reach, interpolation="nearest")
    return figure


def feature_maps(model: nn.Module, image: Any, title: str = "", subtitle: str = "", *, most: int = 8) -> Figure:
    """Draw what each layer makes of an image: a row for each layer, a tile for each channel.

    The model is in evaluation mode meanwhile. Layers that change no value, such as dropout and `Flatten` there, have no
    row. Features without a place in the image are a strip. Blue is positive, orange negative, white 0; each layer has a
    scale of its own, whose end stands beside it.

    Parameters
    ----------
    model : nn.Module
    image : (H, W, C) array
        uint8, or floats as the model takes them.
    title, subtitle : str
    most : int, default 8
        Channels of a layer to be drawn, the first ones.

    Raises
    ------
    ValueError
        If the image has not three axes.
    """
    positive_integer(most, "feature_maps", "most")
    image = np.asarray(to_numpy(image))
    if image.ndim != 3:
        raise ValueError(f"feature_maps: image has shape {image.shape}, expected (H, W, C)")
    pixels = image.astype(np.float32) / (255 if image.dtype == np.uint8 else 1)
    layers = _outputs(model, pixels)
    columns = min(most, max([values.shape[-1] for _, values in layers if values.ndim == 3], default=1))
    figure = titled_figure(
        max(NAME + TILE * columns + 0.2, 6.4), TILE * (len(layers) + 1) + HEADER + 0.15,
        title or "What each layer makes of an image",
        subtitle or "blue: positive, orange: negative, white: 0; each layer has its own scale",
    )  # fmt: skip
    _name(figure, 0, "image", _sizes(image.shape))
    gray = pixels[..., 0] if image.shape[2] != 3 else pixels.clip(0, 1)
    _tile(figure, 0, 0, NAME).imshow(gray, cmap="gray", interpolation="nearest")
    for row, (name, values) in enumerate(layers, 1):
        reach = float(np.abs(values).max()) or 1.0
        _name(figure, row, name, f"{_sizes(values.shape)}, to {reach:.2g}")
        look = {"cmap": SIGNED, "vmin": -reach, "vmax": reach, "interpolation": "nearest"}
        if values.ndim == 1:
            _strip(figure, row, columns).imshow(values[None], aspect="auto", **look)
        else:
            for column in range(min(columns, values.shape[-1])):
                _tile(figure, row, column, NAME).imshow(values[..., column], **look)
    return figure


def histograms(
    model: nn.Module, title: str = "", subtitle: str = "", *, before: Mapping[str, Any] | None = None, most: int = 8
) -> Figure:
    r"""Draw histograms of the weights and of their gradients, a column for each layer.

    Only weights are shown, parameters with two axes or more. Below each name stands their standard deviation; with
    `before`, the weights before a step, also the ratio

    .. math:: \frac{\|W^t - W^{t-1}\|}{\|W^{t-1}\|}

    which tells by what share the step has changed the layer.

    Parameters
    ----------
    model : nn.Module
    title, subtitle : str
    before : state dict, optional
        `model.state_dict()` from before the step.
    most : int, default 8
        Layers to be drawn, the first ones.

    Raises
    ------
    ValueError
        If there are no weights, or some, or gradients, are NaN or infinite, or `before` lacks some.
    """
    positive_integer(most, "histograms", "most")
    layers = [(name, parameter) for name, parameter in model.named_parameters() if parameter.ndim >= 2][:most]
    if not layers:
        raise ValueError("histograms: the model has no weights, which are parameters with two axes or more")
    figure = titled_figure(
        max(2.3 * len(layers), 6.4), 4.1 + HEADER, title or "Weights and gradients by layer",
        subtitle or "above the weights, below their gradients; σ: standard deviation",
    )  # fmt: skip
    for column, (name, parameter) in enumerate(layers):
        W = _finite(name, "weights", parameter.data)
        note = f"σ {W.std():.2g}"
        if before is not None:
            note += f"   ‖ΔW‖/‖W‖ {_ratio(name, W, before):.1e}"
        upper = plain(figure.add_subplot(2, len(layers), column + 1))
        _histogram(upper, W, name, note, FAINT)
        lower = plain(figure.add_subplot(2, len(layers), len(layers) + column + 1))
        if parameter.grad is None:
            lower.set_axis_off()
            lower.text(0.5, 0.5, "no gradient yet", transform=lower.transAxes, ha="center", fontsize=9, color=QUIET)
        else:
            g = _finite(name, "gradients", parameter.grad)
            _histogram(lower, g, "", f"σ {g.std():.2g}", ACCENT)
        if column == 0:
            upper.set_ylabel("weights", fontsize=9, color=INK)
            lower.set_ylabel("gradients", fontsize=9, color=INK)
    return figure


# ---------------------------------------------------------------- what is drawn


def _convolution(layer: nn.Module) -> tuple[str, Any]:
    """Return the name in the model and the weight (height, width, inputs, outputs) of the first convolution."""
    for name, module in layer.named_modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            return name, to_numpy(module.weight.data)
    raise ValueError(f"filters: {type(layer).__name__} has no convolution")


@no_grad()
def _outputs(model: nn.Module, pixels: Any) -> list[tuple[str, Any]]:
    """Return for each layer that changes something its name and its output for one image."""
    names = {id(module): name for name, module in model.named_modules()}
    found: list[tuple[str, Any]] = []

    def note(module: nn.Module, output: Any) -> None:
        values = to_numpy(nn.main_output(output).data)[0]
        last = found[-1][1] if found else pixels
        unchanged = values.size == last.size and np.array_equal(values.ravel(), last.ravel())
        if values.ndim in (1, 3) and not unchanged:
            found.append((names[id(module)] or type(module).__name__, values))

    with nn.evaluating(model), nn.observe(note):
        model(asarray(pixels[None]))
    return found


def _finite(name: str, what: str, values: Any) -> Any:
    array = np.asarray(to_numpy(values)).ravel()
    if not np.isfinite(array).all():
        raise ValueError(f"histograms: {what} of {name} are NaN or infinite")
    return array


def _ratio(name: str, W: Any, before: Mapping[str, Any]) -> float:
    if name not in before:
        raise ValueError(f"histograms: before lacks {name}")
    old = _finite(name, "weights before", before[name])
    if old.shape != W.shape:
        raise ValueError(f"histograms: before has {old.size} values of {name}, expected {W.size}")
    return float(np.linalg.norm(W - old) / np.linalg.norm(old)) if old.any() else float("inf")


# ---------------------------------------------------------------- places


def _tile(figure: Figure, row: int, column: int, left: float = 0.12) -> Any:
    """Return axes for a square in this row and column, counted in inches below the header."""
    return _box(figure, left + column * TILE, row, 0.92 * TILE)


def _strip(figure: Figure, row: int, columns: int) -> Any:
    return _box(figure, NAME, row, (columns - 0.08) * TILE)


def _box(figure: Figure, left: float, row: int, across: float) -> Any:
    figure.set_layout_engine("none")  # the places are counted in inches
    width, height = figure.get_size_inches()
    bottom = height - HEADER - (row + 0.92) * TILE
    axes = figure.add_axes((left / width, bottom / height, across / width, 0.92 * TILE / height))
    axes.set_xticks([])
    axes.set_yticks([])
    for side in axes.spines.values():
        side.set(color=FAINT, linewidth=0.6)
    return axes


def _name(figure: Figure, row: int, name: str, note: str) -> None:
    width, height = figure.get_size_inches()
    y = (height - HEADER - (row + 0.46) * TILE) / height
    figure.text(0.12 / width, y, name, fontsize=9, fontweight="bold", color=INK, va="bottom", parse_math=False)
    figure.text(0.12 / width, y - 0.03 / height, note, fontsize=8, color=QUIET, va="top", parse_math=False)


def _sizes(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape))


def _histogram(axes: Any, values: Any, name: str, note: str, color: str) -> None:
    reach = 1.02 * float(np.abs(values).max()) or 1.0
    counts, edges = np.histogram(values, np.linspace(-reach, reach, BINS + 1))
    axes.stairs(counts, edges, fill=True, color=color)
    if name:
        axes.set_title(name, loc="left", fontsize=9.5, fontweight="bold", color=INK, pad=15, parse_math=False)
        below = axes.annotate(
            note, (0, 1), xycoords="axes fraction", xytext=(0, 4), textcoords="offset points", fontsize=8, color=QUIET
        )
        below.set_in_layout(False)
    else:
        axes.set_title(note, loc="left", fontsize=8, color=QUIET, pad=4)
    axes.set_xlim(edges[0], edges[-1])
    axes.xaxis.set_major_locator(MaxNLocator(3))
    axes.yaxis.set_major_locator(NullLocator())
    axes.grid(visible=False)

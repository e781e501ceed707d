"""The mean and the spread of the values in a deep network, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter

from minidl import nn
from minidl.backend import asarray, to_numpy
from minidl.graph import no_grad
from minidl.viz.parameter_sweep import LOOKS
from minidl.viz.style import HEADER, INK, plain, titled_figure

LEAST, MOST = 1e-30, 1e30  # of the spread, as it is drawn
WIDEST = 4.4  # of the lines; each is narrower than the one before, so that equal ones are all to be seen
FAR = 20.0  # from 0: beyond it means are drawn on a logarithmic axis


def activation_statistics(
    models: Mapping[str, nn.Module],
    x: Any,
    *,
    layers: type[nn.Module] | tuple[type[nn.Module], ...] = nn.Activation,
    title: str = "Activations, layer by layer",
) -> Figure:
    """Draw the mean and the standard deviation of what each layer puts out, a line for each network.

    In training mode, so that normalization uses the batch; the networks' running values and modes are afterwards as
    before. A good start keeps the spread near 1 through all layers: it should neither fade nor grow from one to the
    next.

    Parameters
    ----------
    models : mapping of str to nn.Module
        Up to six, by what they are to be called.
    x : (N, …) array
        A batch.
    layers : type or tuple of types, default nn.Activation
        Which layers' outputs are taken, in the order in which they run.
    title : str

    Raises
    ------
    ValueError
        If there are no networks or more than six, or one has no such layer.
    """
    if not 1 <= len(models) <= len(LOOKS):
        raise ValueError(f"activation_statistics: models has {len(models)} networks, expected 1 to {len(LOOKS)}")
    x = asarray(x)
    moments = {name: _moments(model, x, layers, name) for name, model in models.items()}
    longest = max(len(of_model) for of_model in moments.values())
    subtitle = f"a batch of {len(x):,}, in training mode; over all values that a layer puts out"
    figure = titled_figure(9.6, 3.9 + HEADER, title, subtitle)
    means, spreads = (plain(axes) for axes in figure.subplots(1, 2))
    for i, ((name, of_model), (color, marker)) in enumerate(zip(moments.items(), LOOKS, strict=False)):
        at = np.arange(1, len(of_model) + 1)
        mean, deviation = np.array(of_model).T
        style = {"color": color, "marker": marker, "linewidth": WIDEST - 0.6 * i, "markersize": WIDEST + 1 - 0.6 * i}
        means.plot(at, mean, label=name, **style)
        spreads.plot(at, np.clip(deviation, LEAST, MOST), **style)
    means.set_ylabel("mean", fontsize=9, color=INK)
    if max(abs(mean) for of_model in moments.values() for mean, _ in of_model) > FAR:
        means.set_yscale("symlog", linthresh=1)
        means.yaxis.get_major_locator().set_params(numticks=9)
    spreads.set_ylabel("standard deviation", fontsize=9, color=INK)
    spreads.set_yscale("log")
    low, high = spreads.get_ylim()
    spreads.set_ylim(min(low, 0.1), max(high, 10))  # at least two powers of ten, so that 1 has its place
    spreads.yaxis.set_minor_formatter(NullFormatter())
    for axes in (means, spreads):
        axes.set_xlabel("layer", fontsize=9, color=INK)
        axes.set_xlim(0.5, longest + 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(loc="outside lower center", ncols=len(models), frameon=False, fontsize=9)
    return figure


@no_grad()
def _moments(model: nn.Module, x: Any, layers: Any, name: str) -> list[tuple[float, float]]:
    """Return the mean and the standard deviation of each such layer's output, in the order in which they run."""
    found: list[tuple[float, float]] = []

    def note(module: nn.Module, output: Any) -> None:
        if isinstance(module, layers):
            values = to_numpy(nn.main_output(output).data).astype(np.float64)
            found.append((float(values.mean()), float(values.std())))

    state = model.state_dict()
    with nn.evaluating(model), nn.observe(note):
        model.train()
        model(x)
    model.load_state_dict(state)
    if not found:
        raise ValueError(f"activation_statistics: {name!r} has no layers of these kinds")
    return found

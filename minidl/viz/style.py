"""How minidl's pictures look, and how they are saved."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from minidl.files import replacing

INK = "#22262b"
QUIET = "#5b6470"
ACCENT = "#1c5fc4"
OTHER = "#d55e00"  # beside ACCENT: an orange that everybody can tell from blue
FAINT = "#c9ced6"
GRID = "#eceff3"
HEADER = 0.75  # inches at the top for a title and a line below it


def titled_figure(width: float, height: float, title: str, subtitle: str) -> Figure:
    """Return an empty figure of this size in inches with a title and a line of explanation.

    It belongs to no window, so it never blocks a script.
    """
    below_header = ConstrainedLayoutEngine(rect=(0, 0, 1, 1 - HEADER / height), w_pad=0.06, h_pad=0.03)
    figure = Figure(figsize=(width, height), layout=below_header, facecolor="white")
    FigureCanvasAgg(figure)
    figure.text(0.12 / width, 1 - 0.12 / height, title, fontsize=15, fontweight="bold", color=INK, va="top")
    figure.text(0.12 / width, 1 - 0.47 / height, subtitle, fontsize=9.5, color=QUIET, va="top")
    return figure


def plain(axes: Any) -> Any:
    """Take the frame and the tick marks off an axes, leave a faint grid, and return it."""
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(FAINT)
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", length=0, labelsize=8, colors=INK)
    return axes


def save(figure: Figure, path: str | os.PathLike[str], dpi: int = 130) -> Path:
    """Write the figure as PNG (or what the path's ending says) and return the path."""
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=dpi)
    return Path(path)

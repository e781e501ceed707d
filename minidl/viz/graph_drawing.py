"""Two renderers of boxes and arrows, which draw the same picture: Matplotlib, and the text that Graphviz reads."""

from __future__ import annotations

import html
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import FancyBboxPatch, PathPatch, Polygon
from matplotlib.path import Path as MplPath
from matplotlib.textpath import text_to_path

from minidl.viz.graph_layout import Point, Way, arrange
from minidl.viz.style import ACCENT, HEADER, INK, OTHER, QUIET, titled_figure

FORWARD, BACKWARD = ACCENT, OTHER
LEAF = "#e8f0fb"
LARGE, SMALL = 9.5, 8.0  # points, of a box's first line and of all others
SPACING = 1.4  # of lines, in heights of their letters
PADDING = 0.09  # inches around the text in a box, and around the picture's sides twice
ASIDE = 0.05  # inches from the middle of a way to its two arrows
HEAD = 0.08  # inches, the length of an arrow's head
ROUNDING = 0.09  # inches, of the corners of boxes and arrows
TITLE, SUBTITLE = 15.0, 9.5  # points, as in `titled_figure`
SUBTITLE_LINE = 0.19  # inches for each line of the subtitle but the first
DPI = 130
MOST_PIXELS = 60_000  # of a side of an image in Matplotlib
SPACER = '<FONT POINT-SIZE="3"> </FONT>'
FONT = "DejaVu Sans,Verdana,Helvetica,sans-serif"
ADVICE = "renderer='matplotlib' draws without it"


@dataclass(frozen=True)
class Box:
    """Lines of text, the first in bold; `note` is one more, which tells of the gradient."""

    lines: tuple[str, ...]
    note: str = ""
    noted: bool = False  # the note is drawn in the colour of gradients
    leaf: bool = False
    result: bool = False


@dataclass(frozen=True)
class Arrow:
    """From the box with index `source` to that with index `target`; the label belongs to the way back."""

    source: int
    target: int
    label: tuple[str, ...]


@dataclass(frozen=True)
class Picture:
    """What both renderers draw. A box stands after the sources of its arrows."""

    title: str
    subtitle: tuple[str, ...]
    boxes: tuple[Box, ...]
    arrows: tuple[Arrow, ...]


def _look(box: Box) -> tuple[str, float, str]:
    """Return the colour and width of the frame, and the colour of the ground."""
    frame = (INK, 2.0) if box.result else (FORWARD if box.leaf else QUIET, 0.9)
    return *frame, LEAF if box.leaf else "white"


# ---------------------------------------------------------------- Matplotlib


def figure_of(picture: Picture) -> Figure:
    """Return the picture as a figure, as large as it must be for all text to be read."""
    texts = [_texts(box) for box in picture.boxes]
    sizes = [(_width(lines) + 2 * PADDING, _height(lines) + 1.4 * PADDING) for lines in texts]
    labels = [[(text, _font(SMALL)) for text in arrow.label] for arrow in picture.arrows]
    ways = [
        Way(arrow.source, arrow.target, (_width(lines), _height(lines)))
        for arrow, lines in zip(picture.arrows, labels, strict=True)
    ]
    layout = arrange(sizes, ways)

    header = HEADER + SUBTITLE_LINE * (len(picture.subtitle) - 1)
    heading = [(picture.title, _font(TITLE, bold=True)), *((line, _font(SUBTITLE)) for line in picture.subtitle)]
    width, height = max(layout.width, _width(heading)) + 4 * PADDING, header + layout.height + 2 * PADDING
    figure = titled_figure(width, height, picture.title, "\n".join(picture.subtitle))
    figure.set_layout_engine("none")
    for text in figure.texts:
        text.set_parse_math(False)
    axes = figure.add_axes((0, 0, 1, 1))
    left = (layout.width - width) / 2
    axes.set(xlim=(left, left + width), ylim=(height - header, -header))  # data coordinates are inches
    axes.axis("off")

    for box, lines, place in zip(picture.boxes, texts, layout.boxes, strict=True):
        _draw_box(axes, box, lines, place)
    for lines, points, (x, y) in zip(labels, layout.ways, layout.labels, strict=True):
        _draw_arrow(axes, _beside(points, -ASIDE), 1.5, FORWARD)
        _draw_arrow(axes, _beside(points, ASIDE)[::-1], 1.1, BACKWARD, (0, (4, 2)))
        _write(axes, lines, x + 3 * ASIDE, y, [BACKWARD] * len(lines), "left")
    return figure


def resolution(figure: Figure) -> int:
    """Return the dots per inch at which the figure is not too large for an image."""
    return min(DPI, int(MOST_PIXELS / max(figure.get_size_inches())))


Texts = Sequence[tuple[str, FontProperties]]


def _font(size: float, bold: bool = False) -> FontProperties:
    return FontProperties(size=size, weight="bold" if bold else "normal")


def _texts(box: Box) -> list[tuple[str, FontProperties]]:
    rest = [*box.lines[1:], *filter(None, [box.note])]
    return [(box.lines[0], _font(LARGE, bold=True)), *((line, _font(SMALL)) for line in rest)]


def _width(lines: Texts) -> float:
    """Return the width of the widest line in inches."""
    return max(text_to_path.get_text_width_height_descent(text, font, False)[0] for text, font in lines) / 72


def _height(lines: Texts) -> float:
    return sum(font.get_size_in_points() for _, font in lines) * SPACING / 72


def _draw_box(axes: Axes, box: Box, lines: Texts, place: tuple[float, float, float, float]) -> None:
    x, y, width, height = place
    edge, thick, face = _look(box)
    corner = (x - width / 2, y - height / 2)
    style = f"round,pad=0,rounding_size={ROUNDING}"
    frame = FancyBboxPatch(corner, width, height, boxstyle=style, facecolor=face, edgecolor=edge, linewidth=thick)
    axes.add_patch(frame)
    colors = [INK] + [QUIET] * (len(lines) - 1)
    if box.noted:
        colors[-1] = BACKWARD
    _write(axes, lines, x, y, colors, "center")


def _write(axes: Axes, lines: Texts, x: float, y: float, colors: Sequence[str], side: str) -> None:
    """Write lines one below the other, around the height y."""
    y -= _height(lines) / 2
    for (text, font), color in zip(lines, colors, strict=True):
        step = _height([(text, font)])
        axes.text(x, y + step / 2, text, font=font, color=color, ha=side, va="center", parse_math=False)
        y += step


def _beside(points: Sequence[Point], aside: float) -> list[Point]:
    """Return the corners of a line on one side of a way, which keeps apart from that on the other side everywhere."""
    moved = [(points[0][0] + aside, points[0][1])]
    for (x0, y), (x1, _) in zip(points[1:-1:2], points[2::2], strict=True):  # the lines sideways
        if x0 != x1:
            height = y - aside * np.sign(x1 - x0)
            moved += [(x0 + aside, height), (x1 + aside, height)]
    return [*moved, (points[-1][0] + aside, points[-1][1])]


def _draw_arrow(axes: Axes, corners: Sequence[Point], width: float, color: str, dashes: Any = "-") -> None:
    """Draw a line with rounded corners, and a head at its end, which is vertical."""
    (_, before), (x, y) = corners[-2:]
    base = y - HEAD if before < y else y + HEAD
    way = np.array([*corners[:-1], (x, base)])
    steps = np.diff(way, axis=0)
    lengths = np.abs(steps).sum(axis=1)
    vertices, codes = [way[0]], [MplPath.MOVETO]
    for k, corner in enumerate(way[1:-1]):
        radius = min(ROUNDING, *lengths[k : k + 2] / 2)
        into, out = steps[k : k + 2] / lengths[k : k + 2, None]
        vertices += [corner - radius * into, corner, corner + radius * out]
        codes += [MplPath.LINETO, MplPath.CURVE3, MplPath.CURVE3]
    line = MplPath([*vertices, way[-1]], [*codes, MplPath.LINETO])
    axes.add_patch(PathPatch(line, fill=False, edgecolor=color, linewidth=width, linestyle=dashes, capstyle="butt"))
    head = [(x - HEAD / 2.4, base), (x + HEAD / 2.4, base), (x, y)]
    axes.add_patch(Polygon(head, facecolor=color, edgecolor="none"))


# ---------------------------------------------------------------- Graphviz


def dot_of(picture: Picture) -> str:
    """Return the picture in the language of Graphviz."""
    heading = [
        f'<FONT POINT-SIZE="{TITLE:g}" COLOR="{INK}"><B>{_escaped(picture.title)}</B></FONT>',
        SPACER,
        *(f'<FONT POINT-SIZE="{SUBTITLE:g}" COLOR="{QUIET}">{_escaped(line)}</FONT>' for line in picture.subtitle),
        " ",
    ]
    lines = [
        "digraph {",
        f'  graph [fontname="{FONT}", labelloc=t, labeljust=l, nodesep=0.3, ranksep=0.3, pad=0.15, bgcolor=white,'
        f" label=<{_left(heading)}>];",
        f'  node [fontname="{FONT}", fontsize={SMALL:g}, fontcolor="{QUIET}", shape=box, style="rounded,filled",'
        ' margin="0.1,0.07", height=0.3];',
        f'  edge [fontname="{FONT}", fontsize={SMALL:g}, fontcolor="{BACKWARD}", arrowsize=0.6];',
    ]
    lines += [f"  n{i} [{_dot_box(box)}];" for i, box in enumerate(picture.boxes)]
    for arrow in picture.arrows:
        ends = f"n{arrow.source} -> n{arrow.target}"
        label = _left([f"&#160;{_escaped(line)}" for line in arrow.label])
        # The way back is declared forwards, with its head at the tail: so the two lie side by side.
        straight = 1 if picture.boxes[arrow.source].leaf else 20
        lines.append(f'  {ends} [color="{FORWARD}", penwidth=1.5, weight={straight}, label="   "];')
        lines.append(f'  {ends} [color="{BACKWARD}", penwidth=1.1, style=dashed, dir=back, label=<{label}>];')
    return "\n".join([*lines, "}", ""])


def program() -> str | None:
    """Return the path of Graphviz's `dot`, or None where it is not installed."""
    return shutil.which("dot")


def needed_program() -> str:
    """Return the path of `dot`; raise RuntimeError where it is not installed."""
    dot = program()
    if dot is None:
        raise RuntimeError(f"draw_graph: there is no program 'dot' on the PATH; install Graphviz, or {ADVICE}")
    return dot


def run_dot(text: str, form: str, patience: float) -> bytes:
    """Return the picture that Graphviz makes of `text` in so many seconds, as "png", "svg" or "pdf".

    Raises
    ------
    RuntimeError
        If there is no `dot`, or it fails or takes too long.
    """
    dot = needed_program()
    command = [dot, f"-T{form}", *([f"-Gdpi={DPI}"] if form == "png" else [])]
    try:
        done = subprocess.run(command, input=text.encode(), capture_output=True, timeout=patience, check=True)
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(f"draw_graph: Graphviz took more than {patience} s; {ADVICE}") from error
    except (OSError, subprocess.CalledProcessError) as error:
        said = (getattr(error, "stderr", b"") or b"").decode(errors="replace").strip()
        raise RuntimeError(f"draw_graph: Graphviz failed ({said or error}); {ADVICE}") from error
    return done.stdout


def _dot_box(box: Box) -> str:
    edge, thick, face = _look(box)
    title = f'<FONT POINT-SIZE="{LARGE:g}" COLOR="{INK}"><B>{_escaped(box.lines[0])}</B></FONT>'
    lines = [title, SPACER, *map(_escaped, box.lines[1:])]
    if box.note:
        note = _escaped(box.note)
        lines.append(f'<FONT COLOR="{BACKWARD}">{note}</FONT>' if box.noted else note)
    return f'color="{edge}", penwidth={thick:g}, fillcolor="{face}", label=<{"<BR/>".join(lines)}>'


def _left(lines: Sequence[str]) -> str:
    return "".join(f'{line}<BR ALIGN="LEFT"/>' for line in lines)


def _escaped(text: str) -> str:
    return html.escape(text)

"""The race of optimizers on a surface, moving: mp4 through ffmpeg where it is installed, GIF otherwise."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.markers import MarkerStyle
from matplotlib.path import Path as MatplotlibPath
from matplotlib.transforms import Affine2D
from PIL import Image

from minidl.files import replacing, writable_folder
from minidl.ops.arguments import number, positive_integer
from minidl.surfaces import Sweep
from minidl.surfaces.sweep import ROUNDING
from minidl.viz.style import HEADER, INK, QUIET, titled_figure
from minidl.viz.surface import DIVERGED, MINIMUM, START, Ground, arrowhead, best_runs, counted, exits

DPI = 90
WIDE, TALL = 6.6, 5.6  # inches at most, of the surface
NAME, SETTING, LOSS = 0.55, 1.95, 4.35  # inches in the table; the last is its width
ROW = 0.31
TAIL = 10  # steps that the bright end of a trail is long
TEXT = 9.5
BIG: dict[str, Any] = {"fontsize": 15, "fontweight": "bold", "color": INK}
COUNTER = 0.2  # inches below the top of the table
HEAD, ARROW = 1.3, 13  # size of a head, against its mark in the table; of an arrowhead, in points


def race_animation(sweep: Sweep, path: str | os.PathLike[str], *, seconds: float = 10, fps: int = 20) -> Path:
    """Write a film of all methods, each at its best setting, on one surface.

    Parameters
    ----------
    sweep : Sweep
        From `surfaces.sweep`.
    path : path
        Where to write, without the ending: an mp4 (H.264) if ffmpeg is on the PATH, else a GIF.
    seconds : float, default 10
        How long it lasts; the end is held for the last second.
    fps : int, default 20
        Frames in a second, at most 100. The steps are spread evenly over them, from the first to the last.

    Returns
    -------
    Path
        With its ending.

    Raises
    ------
    RuntimeError
        If ffmpeg fails, with the last lines of what it says. Nothing is left behind.
    """
    if not isinstance(sweep, Sweep):
        raise TypeError(f"race_animation: sweep is of type {type(sweep).__name__}, expected a Sweep")
    number(positive_integer(fps, "race_animation", "fps"), "race_animation", "fps", "[1, 100]")
    frames = round(number(seconds, "race_animation", "seconds", "(0, 3600]") * fps)
    if frames < 2:
        raise ValueError(
            f"race_animation: seconds is {seconds!r} at {fps} frames a second, expected two frames or more"
        )
    ffmpeg = shutil.which("ffmpeg")
    target = Path(path)
    target = writable_folder(target.parent, "race_animation") / (target.name + (".mp4" if ffmpeg else ".gif"))
    film, schedule = Film(sweep), _schedule(sweep.steps, frames, fps)
    with replacing(target) as temporary:
        if ffmpeg:
            _write_mp4(ffmpeg, film, schedule, fps, temporary)
        else:
            _write_gif(film, schedule, fps, temporary)
    return target


def _schedule(steps: int, frames: int, fps: int) -> list[int]:
    """Return the step that each frame shows: spread evenly, then the last one for a second."""
    moving = max(2, frames - min(fps, frames // 3))
    return [*np.linspace(0, steps, moving).round().astype(int).tolist(), *[steps] * (frames - moving)]


class Film:
    """Draws the frames. What stands still is drawn once; only trails, heads and numbers are drawn anew.

    Attributes
    ----------
    size : (int, int)
        Of a frame in pixels, both even.
    """

    def __init__(self, sweep: Sweep):
        self._runs, self._ground, self._steps = best_runs(sweep), Ground(sweep), sweep.steps
        self._exits = {run.name: exits(run.path, self._ground.box) for run in self._runs}
        ratio = self._ground.ratio
        wide = min(WIDE, TALL / ratio)
        body = max(wide * ratio, ROW * (len(self._runs) + 1.5))
        width, height = (_even(inches) for inches in (0.5 + wide + 0.3 + LOSS + 0.2, HEADER + body + 0.45))
        explanation = "Each method at its best setting; an arrowhead stands for one outside."
        subtitle = f"{sweep.problem.equation}.  {explanation}"
        self._figure = titled_figure(width, height, sweep.problem.title, subtitle)
        self._figure.set_layout_engine("none")
        self._figure.set_dpi(DPI)
        self.size = round(width * DPI), round(height * DPI)

        def place(left: float, wide: float, tall: float) -> Any:
            top = HEADER + 0.1
            return self._figure.add_axes((left / width, 1 - (top + tall) / height, wide / width, tall / height))

        self._map = place(0.5, wide, wide * ratio)
        self._ground.draw(self._map)
        self._table = place(0.5 + wide + 0.3, LOSS, body)
        self._table.set(xlim=(0, LOSS), ylim=(body, 0))
        self._table.set_axis_off()
        self._fill_table()

    def _fill_table(self) -> None:
        self._table.text(self._counted + 0.08, COUNTER, f"of {counted(self._steps, 'step')}", **BIG)
        self._table.text(LOSS, COUNTER, "loss", fontsize=TEXT, color=QUIET, ha="right")
        for row, run in enumerate(self._runs):
            y = _row(row)
            middle = [y - 0.05] * 3
            self._table.plot([0, 0.2, 0.4], middle, **run.look | {"linestyle": "-"}, markevery=[1], linewidth=1.8)
            self._table.text(NAME, y, run.name, fontsize=TEXT, color=INK)
            self._table.text(SETTING, y, run.setting, fontsize=TEXT - 1, color=QUIET)

    @property
    def _counted(self) -> float:
        """Where the number of the step ends, in inches."""
        return 0.15 * len(str(self._steps))

    def frames(self, steps: Iterable[int]) -> Iterator[Any]:
        """Yield an image (height, width, 4) for each of these steps, which must not fall."""
        canvas: Any = self._figure.canvas
        canvas.draw()
        pen = Pen(canvas.renderer, self._map)
        counter = Letters("0123456789", 0.696, **BIG)
        losses = Letters("0123456789.e+-<", 0.602, fontsize=TEXT, family="DejaVu Sans Mono")
        background, drawn = canvas.copy_from_bbox(self._figure.bbox), -1
        for step in steps:
            canvas.restore_region(background)
            if step > drawn:
                self._lengthen_trails(pen, drawn, step)
                background, drawn = canvas.copy_from_bbox(self._figure.bbox), step
            self._draw_heads(pen, step)
            image = np.array(canvas.buffer_rgba())
            counter.write(image, str(step), *self._pixel(self._counted, COUNTER))
            for row, run in enumerate(self._runs):
                if run.stopped is None or step < run.stopped:
                    losses.write(image, _brief(float(run.losses[step])), *self._pixel(LOSS, _row(row)))
            yield image

    def palette(self) -> Image.Image:
        """Return the colors of a GIF: those of the runs as they are, the others as in the last frame."""
        runs = [run.color for run in self._runs]
        colors = [to_rgb("white"), to_rgb(INK), *map(to_rgb, runs), *map(_pale, runs)]
        exact = (255 * np.array(colors)).round().astype(int)
        last = Image.fromarray(next(self.frames([self._steps]))).convert("RGB").quantize(255 - len(exact))
        others = np.array(last.getpalette() or []).reshape(-1, 3)
        others = others[np.abs(others[:, None] - exact).max(axis=2).min(axis=1) > 10]  # so white stays white
        palette = Image.new("P", (1, 1))
        palette.putpalette([*exact.ravel().tolist(), *others.ravel().tolist()])
        return palette

    def _pixel(self, x: float, y: float) -> tuple[int, int]:
        """Return the column and the line of a place in the table."""
        column, line = self._table.transData.transform((x, y))
        return round(column), round(self.size[1] - line)

    def _lengthen_trails(self, pen: Pen, since: int, step: int) -> None:
        """Draw into the background, where it stays: the new pieces of the pale trails, and who has stopped."""
        for row, run in enumerate(self._runs):
            pen.line(run.path[max(0, since) : step + 1], _pale(run.color), 1.3)
            if run.stopped is not None and since < run.stopped <= step:
                fate = self._table.text(LOSS, _row(row), run.fate, fontsize=TEXT - 1, color=INK, ha="right")
                self._table.draw_artist(fate)
                fate.remove()

    def _draw_heads(self, pen: Pen, step: int) -> None:
        """Draw the bright ends of the trails and the heads, the best on top of the others.

        The head of a run that is outside is an arrowhead where it left the picture.
        """
        now = [(run, min(step, run.last)) for run in reversed(self._runs)]
        for run, at in now:
            pen.line(run.path[max(0, at - TAIL) : at + 1], run.color, 2.2)
        pen.mark(self._ground.start, START)
        for minimum in self._ground.problem.minima:
            pen.mark(minimum, MINIMUM)
        for run, at in now:
            point, look = run.path[at], run.look | {"markersize": HEAD * run.look["markersize"]}
            if not self._ground.holds(point):
                _, point, angle = [exit for exit in self._exits[run.name] if exit[0] <= at][-1]
                look |= {"marker": arrowhead(angle), "markersize": ARROW}
            if run.diverged and step > at:
                look |= {"marker": DIVERGED["marker"], "markersize": ARROW}
            pen.mark(point, look)


class Pen:
    """Draws lines and marks into axes without what makes artists slow."""

    def __init__(self, renderer: Any, axes: Any):
        self._renderer, self._box = renderer, axes.bbox
        self._pixels = Affine2D(axes.transData.get_matrix())
        self._styles: dict[Any, MarkerStyle] = {}

    def line(self, points: Any, color: Any, width: float) -> None:
        gc = self._gc(color, width)
        gc.set_clip_rectangle(self._box)
        gc.set_capstyle("round")
        self._renderer.draw_path(gc, MatplotlibPath(points), self._pixels)

    def mark(self, point: Any, look: dict[str, Any]) -> None:
        marker, size = look["marker"], look["markersize"] * DPI / 72
        if marker not in self._styles:
            self._styles[marker] = MarkerStyle(marker)
        style = self._styles[marker]
        place = style.get_transform() + Affine2D().scale(size).translate(*self._pixels.transform(point))
        gc = self._gc(look["markeredgecolor"], look.get("markeredgewidth", 1))
        self._renderer.draw_path(gc, style.get_path(), place, to_rgb(look["markerfacecolor"]))

    def _gc(self, color: Any, width: float) -> Any:
        gc = self._renderer.new_gc()
        gc.set_foreground(color)
        gc.set_linewidth(width * DPI / 72)
        return gc


class Letters:
    """Letters of one width, drawn once: writing them anew takes longer than all the rest of a frame."""

    def __init__(self, letters: str, advance: float, **look: Any):
        size = look["fontsize"] * DPI / 72
        width, self._above, self._below = round(advance * size), round(size), round(0.4 * size)
        height = self._above + self._below
        sheet = Figure(figsize=(width * len(letters) / DPI, height / DPI), dpi=DPI, facecolor="white")
        canvas = FigureCanvasAgg(sheet)
        for i, letter in enumerate(letters):
            sheet.text((i + 0.5) / len(letters), self._below / height, letter, **{"color": INK} | look, ha="center")
        canvas.draw()
        cells = np.split(np.array(canvas.buffer_rgba()), len(letters), axis=1)
        self._cells = dict(zip(letters, cells, strict=True))

    def write(self, image: Any, words: str, right: int, line: int) -> None:
        """Put the words into the image, which is white there, to end at this column and to stand on this line."""
        strip = np.concatenate([self._cells[letter] for letter in words], axis=1)
        image[line - self._above : line + self._below, right - strip.shape[1] : right] = strip


def _pale(color: str) -> tuple[float, float, float]:
    red, green, blue = (0.5 + 0.5 * part for part in to_rgb(color))
    return red, green, blue


def _brief(loss: float) -> str:
    return f"{loss:.1e}" if loss >= ROUNDING else f"<{ROUNDING:.0e}"


def _row(row: int) -> float:
    return ROW * (row + 2.1)


def _even(inches: float) -> float:
    return 2 * round(inches * DPI / 2) / DPI


def _write_mp4(ffmpeg: str, film: Film, schedule: list[int], fps: int, path: Path) -> None:
    width, height = film.size
    command = [
        ffmpeg, "-y", "-loglevel", "error", "-f", "rawvideo", "-pix_fmt", "rgba", "-s", f"{width}x{height}",
        "-r", f"{fps}", "-i", "-", "-c:v", "libx264", "-preset", "veryfast", "-crf", "20", "-pix_fmt", "yuv420p",
        "-movflags", "+faststart", "-f", "mp4", f"file:{path}",
    ]  # fmt: skip
    with tempfile.TemporaryFile() as said:
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=said) as process:
            frames: Any = process.stdin
            try:
                with contextlib.suppress(BrokenPipeError):  # ffmpeg is gone; what it said is read below
                    for image in film.frames(schedule):
                        frames.write(image)
            except BaseException:
                process.kill()
                raise
            finally:
                with contextlib.suppress(BrokenPipeError):
                    frames.close()
        if process.returncode:
            said.seek(0)
            words = " | ".join(said.read().decode(errors="replace").split("\n")[-4:]).strip(" |")
            raise RuntimeError(f"race_animation: ffmpeg failed with status {process.returncode}: {words}")


def _write_gif(film: Film, schedule: list[int], fps: int, path: Path) -> None:
    """Write one frame for each step; one that stands in several frames of the schedule is shown the longer."""
    shown = [(step, len(list(repeats))) for step, repeats in groupby(schedule)]
    palette = film.palette()
    images = (
        Image.fromarray(image).convert("RGB").quantize(palette=palette, dither=Image.Dither.NONE)
        for image in film.frames(step for step, _ in shown)
    )
    next(images).save(
        path, save_all=True, append_images=images, duration=[1000 * n / fps for _, n in shown], loop=0, optimize=True
    )  # fmt: skip

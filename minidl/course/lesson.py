"""What every lesson has: `--quick`, `--out`, pictures that are saved and shown, and images to learn from."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from minidl import data, viz
from minidl.data import places
from minidl.data.sources import SOURCES

NOTEBOOK = "ipykernel"


@dataclass(frozen=True)
class Lesson:
    """How a lesson was started.

    Attributes
    ----------
    quick : bool
        Whether it should take seconds: less data, fewer steps.
    out : Path
        The folder for its pictures.
    """

    quick: bool
    out: Path

    def show(self, figure: Figure, name: str) -> Path:
        """Save a figure as `name`.png in the folder for pictures, print where, and show it in a notebook."""
        self.out.mkdir(parents=True, exist_ok=True)
        path = viz.save(figure, self.out / f"{name}.png")
        print("wrote", path)
        if NOTEBOOK in sys.modules:
            from IPython.display import Image, display

            display(Image(path))
        return path

    def images(self, name: str) -> data.Dataset:
        """Return a dataset by name if its files are on this machine and the lesson is not quick, else the digits.

        The digits are in the package, 28×28 pixels. Nothing is downloaded; which images are used is printed.
        """
        here = places.find(SOURCES[name]) is not None
        if here and not self.quick:
            print(f"images: {name}")
            return data.load(name)
        reason = "the quick form" if self.quick else f"{name} is not here; `minidl data fetch {name}` gets it"
        print(f"images: the embedded digits, 28×28 ({reason})")
        return data.load("digits", size=28)


def lesson(title: str) -> Lesson:
    """Read the command line of a lesson with this title.

    In a notebook, where there is no command line of its own, it gives the full form.

    >>> this = lesson("1 · Autograd by hand")  # doctest: +SKIP
    """
    parser = argparse.ArgumentParser(description=f"Lesson {title}")
    parser.add_argument("--quick", action="store_true", help="less data and fewer steps: seconds instead of minutes")
    parser.add_argument("--out", type=Path, default=Path("minidl-lessons"), help="folder for the pictures")
    arguments: list[str] | None = [] if NOTEBOOK in sys.modules else None
    options = parser.parse_args(arguments)
    return Lesson(options.quick, options.out)

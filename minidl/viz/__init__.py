"""Pictures. Every function returns a Matplotlib figure, which belongs to no window; `save` writes it."""

from minidl.viz.curves import LearningCurve, small_multiples
from minidl.viz.style import ACCENT, FAINT, INK, plain, save, titled_figure

__all__ = ["ACCENT", "FAINT", "INK", "LearningCurve", "plain", "save", "small_multiples", "titled_figure"]

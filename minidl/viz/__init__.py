"""Pictures. Every function returns a Matplotlib figure; `save` writes it."""

from minidl.viz.curves import LearningCurve, small_multiples
from minidl.viz.style import save

__all__ = ["LearningCurve", "save", "small_multiples"]

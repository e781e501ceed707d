"""Training: the loop, what watches it, and its record."""

from minidl.training.callbacks import Callback, ProgressBar
from minidl.training.diagnosis import NonFiniteLossError
from minidl.training.history import History
from minidl.training.trainer import Trainer

__all__ = ["Callback", "History", "NonFiniteLossError", "ProgressBar", "Trainer"]

"""Training: the loop, what watches it, and its record."""

from minidl.training.callbacks import Callback, Checkpoint, ProgressBar
from minidl.training.checkpoint import load_checkpoint, save_checkpoint
from minidl.training.diagnosis import NonFiniteLossError
from minidl.training.history import History
from minidl.training.minimize import Minimized, minimize
from minidl.training.rate_finder import RateRange, find_rate
from minidl.training.stopping import EarlyStopping, SmallChange, SmallStep, StepLimit, StoppingRule
from minidl.training.trainer import Trainer

__all__ = [
    "Callback",
    "Checkpoint",
    "EarlyStopping",
    "History",
    "Minimized",
    "NonFiniteLossError",
    "ProgressBar",
    "RateRange",
    "SmallChange",
    "SmallStep",
    "StepLimit",
    "StoppingRule",
    "Trainer",
    "find_rate",
    "load_checkpoint",
    "minimize",
    "save_checkpoint",
]

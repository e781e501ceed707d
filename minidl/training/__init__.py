"""Training: the loop, what watches it, and its record."""

from minidl.training.adversarial import AdversarialNoise, fgsm
from minidl.training.callbacks import Callback, Checkpoint, ProgressBar
from minidl.training.checkpoint import load_checkpoint, save_checkpoint
from minidl.training.cross_validation import CrossValidation, cross_validate
from minidl.training.curriculum import ProgressiveSharpening
from minidl.training.diagnosis import NonFiniteLossError
from minidl.training.filtration import Suspects, sample_losses, suspects
from minidl.training.history import History
from minidl.training.landscape import (
    LossLine,
    LossPaths,
    LossPlane,
    loss_line,
    loss_paths,
    loss_plane,
    random_direction,
)
from minidl.training.minimize import Minimized, minimize
from minidl.training.rate_finder import RateRange, find_rate
from minidl.training.stopping import EarlyStopping, SmallChange, SmallStep, StepLimit, StoppingRule
from minidl.training.trainer import Trainer

__all__ = [
    "AdversarialNoise",
    "Callback",
    "Checkpoint",
    "CrossValidation",
    "EarlyStopping",
    "History",
    "LossLine",
    "LossPaths",
    "LossPlane",
    "Minimized",
    "NonFiniteLossError",
    "ProgressBar",
    "ProgressiveSharpening",
    "RateRange",
    "SmallChange",
    "SmallStep",
    "StepLimit",
    "StoppingRule",
    "Suspects",
    "Trainer",
    "cross_validate",
    "fgsm",
    "find_rate",
    "load_checkpoint",
    "loss_line",
    "loss_paths",
    "loss_plane",
    "minimize",
    "random_direction",
    "sample_losses",
    "save_checkpoint",
    "suspects",
]

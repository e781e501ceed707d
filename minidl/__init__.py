"""minidl: the framework to learn CNN optimization from, on NumPy and CuPy.

>>> import minidl as ml
>>> from minidl import data, models, ops, optim, training
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from minidl import backend, ops
from minidl.anomaly import AnomalyError, detect_anomaly
from minidl.backend import device, gpu_status, manual_seed, use_device
from minidl.derivatives import hessian, jacobian
from minidl.gradcheck import GradientError, check_gradients
from minidl.graph import no_grad
from minidl.tensor import Tensor, differentiable
from minidl.threads import get_threads, set_threads

if TYPE_CHECKING:
    from minidl import course, data, models, nn, optim, studies, surfaces, training, viz
    from minidl.viz import draw_graph

__version__ = "0.1.0"

_ON_DEMAND = ("course", "data", "models", "nn", "optim", "studies", "surfaces", "training", "viz")


def __getattr__(name: str) -> Any:
    """Import a subpackage, or what draws, when it is first asked for, so that the command line starts fast."""
    if name in _ON_DEMAND:
        return importlib.import_module(f"minidl.{name}")
    if name == "draw_graph":
        return importlib.import_module("minidl.viz").draw_graph
    raise AttributeError(f"module 'minidl' has no attribute '{name}'")


__all__ = [
    "AnomalyError",
    "GradientError",
    "Tensor",
    "backend",
    "check_gradients",
    "course",
    "data",
    "detect_anomaly",
    "device",
    "differentiable",
    "draw_graph",
    "get_threads",
    "gpu_status",
    "hessian",
    "jacobian",
    "manual_seed",
    "models",
    "nn",
    "no_grad",
    "ops",
    "optim",
    "set_threads",
    "studies",
    "surfaces",
    "training",
    "use_device",
    "viz",
]

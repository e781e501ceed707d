"""Known networks, built from `minidl.nn`."""

from minidl.models.lenet import lenet5
from minidl.models.mlp import mlp

__all__ = ["lenet5", "mlp"]

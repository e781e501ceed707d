"""Optimizers: each is its equation on the vector W."""

from minidl.optim.adaptive import Adadelta, AdaGrad, Adam, AdaMax, AMSGrad, Nadam, RMSProp
from minidl.optim.first_order import SGD, HeavyBall, Nesterov
from minidl.optim.optimizer import Optimizer

__all__ = [
    "SGD",
    "AMSGrad",
    "AdaGrad",
    "AdaMax",
    "Adadelta",
    "Adam",
    "HeavyBall",
    "Nadam",
    "Nesterov",
    "Optimizer",
    "RMSProp",
]

"""Optimizers: each is its equation on the vector W."""

from minidl.optim import catalogue, penalties, schedules
from minidl.optim.adaptive import Adadelta, AdaGrad, Adam, AdaMax, AMSGrad, Nadam, RMSProp
from minidl.optim.clipping import ClipNorm, ClipValue
from minidl.optim.first_order import SGD, HeavyBall, Nesterov
from minidl.optim.line_search import SteepestDescent
from minidl.optim.optimizer import Optimizer
from minidl.optim.second_order import GaussNewton, LevenbergMarquardt, Newton

__all__ = [
    "SGD",
    "AMSGrad",
    "AdaGrad",
    "AdaMax",
    "Adadelta",
    "Adam",
    "ClipNorm",
    "ClipValue",
    "GaussNewton",
    "HeavyBall",
    "LevenbergMarquardt",
    "Nadam",
    "Nesterov",
    "Newton",
    "Optimizer",
    "RMSProp",
    "SteepestDescent",
    "catalogue",
    "penalties",
    "schedules",
]

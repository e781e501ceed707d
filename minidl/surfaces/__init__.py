"""Test problems with known minima, and optimizers on them."""

from minidl.surfaces.problems import (
    PROBLEMS,
    Problem,
    beale,
    himmelblau,
    problem,
    quadratic,
    rastrigin,
    rosenbrock,
    saddle,
)
from minidl.surfaces.strd import Regression, strd, strd_names
from minidl.surfaces.sweep import STEPS, Family, Sweep, check, sweep

__all__ = [
    "PROBLEMS",
    "STEPS",
    "Family",
    "Problem",
    "Regression",
    "Sweep",
    "beale",
    "check",
    "himmelblau",
    "problem",
    "quadratic",
    "rastrigin",
    "rosenbrock",
    "saddle",
    "strd",
    "strd_names",
    "sweep",
]

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
from minidl.surfaces.sweep import Family, Sweep, sweep

__all__ = [
    "PROBLEMS",
    "Family",
    "Problem",
    "Sweep",
    "beale",
    "himmelblau",
    "problem",
    "quadratic",
    "rastrigin",
    "rosenbrock",
    "saddle",
    "sweep",
]

"""Sample calls of every op: for each name in the registry, a function that draws inputs and settings."""

from op_cases import basic, dropout, images, losses, normalization, smoothing
from op_cases.samples import Case, Sample

CASES: dict[str, Case] = (
    basic.CASES | dropout.CASES | images.CASES | losses.CASES | normalization.CASES | smoothing.CASES
)

__all__ = ["CASES", "Case", "Sample"]

"""The table of ops: whatever must hold for every op is tested by going through it.

For each public name it has the oracle, the domain, how inputs and settings are drawn, what is promised at kinks, and
which shapes with sizes of 0 and 1 are taken.
"""

from op_cases import arithmetic, dropout, elementwise, images, losses, normalization, reductions, shaping, smoothing
from op_cases.samples import Case, Sample

CASES: dict[str, Case] = (
    arithmetic.CASES
    | dropout.CASES
    | elementwise.CASES
    | images.CASES
    | losses.CASES
    | normalization.CASES
    | reductions.CASES
    | shaping.CASES
    | smoothing.CASES
)

__all__ = ["CASES", "Case", "Sample"]

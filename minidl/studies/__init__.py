"""Studies: recipes that end in a table and a picture."""

from minidl.studies.compare import Comparison, compare

__all__ = ["Comparison", "compare"]

"""Studies: recipes that end in a table and a picture."""

from minidl.studies.comparison import Comparison, compare

__all__ = ["Comparison", "compare"]

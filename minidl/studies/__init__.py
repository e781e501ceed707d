"""Studies: recipes that end in a table and a picture."""

from minidl.studies.comparison import Comparison, compare
from minidl.studies.search import Choice, Found, Pruned, Range, search

__all__ = ["Choice", "Comparison", "Found", "Pruned", "Range", "compare", "search"]

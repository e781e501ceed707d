"""Studies: recipes that end in a table and a picture."""

from minidl.studies.command import STUDIES
from minidl.studies.comparison import Comparison, compare
from minidl.studies.conduct import Results, conduct
from minidl.studies.recipe import Recipe
from minidl.studies.report import write_report
from minidl.studies.run import Run, read_record, repeat
from minidl.studies.search import Choice, Found, Pruned, Range, search
from minidl.studies.study import Options, Published, Study
from minidl.studies.tuning import Search

__all__ = [
    "STUDIES",
    "Choice",
    "Comparison",
    "Found",
    "Options",
    "Pruned",
    "Published",
    "Range",
    "Recipe",
    "Results",
    "Run",
    "Search",
    "Study",
    "compare",
    "conduct",
    "read_record",
    "repeat",
    "search",
    "write_report",
]

"""Datasets, batches and splits."""

from minidl.data import augment, sharpening, splits
from minidl.data.dataset import Dataset, from_arrays, load
from minidl.data.duplicates import Duplicates, duplicates
from minidl.data.folders import from_folder
from minidl.data.generator import SampleGenerator
from minidl.data.loader import Loader
from minidl.data.sources import NAMES
from minidl.data.standardization import Standardization

__all__ = [
    "NAMES",
    "Dataset",
    "Duplicates",
    "Loader",
    "SampleGenerator",
    "Standardization",
    "augment",
    "duplicates",
    "from_arrays",
    "from_folder",
    "load",
    "sharpening",
    "splits",
]

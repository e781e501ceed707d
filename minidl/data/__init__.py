"""Datasets, batches and splits."""

from minidl.data import splits
from minidl.data.dataset import NAMES, Dataset, load
from minidl.data.loader import Loader

__all__ = ["NAMES", "Dataset", "Loader", "load", "splits"]

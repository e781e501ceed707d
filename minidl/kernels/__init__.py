"""The hot kernels: plain functions on arrays, without a graph, as twins: the same functions in `numpy/` and `cuda/`."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

import numpy as np

from minidl.backend import array_module
from minidl.kernels import numpy as numpy_kernels


def of(*arrays: Any) -> ModuleType:
    """Return the package of kernels that serves arrays: `cuda` if all are CuPy's, of floats, and `numpy` otherwise.

    The kernels in `numpy` use only functions that CuPy has too: they also serve CuPy's arrays of integers and complex
    numbers, and arrays that carry derivatives.
    """
    for x in arrays:
        if type(x) is np.ndarray or array_module(x) is np or x.dtype.char not in "fd":
            return numpy_kernels
    return importlib.import_module("minidl.kernels.cuda")

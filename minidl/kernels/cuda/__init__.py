"""The hot kernels in CUDA C++, compiled at run time by CuPy: a `.cu` with the kernels, a `.py` that launches them.

Diffusion has no kernel of its own: its NumPy form runs on CuPy's arrays.
"""

from minidl.kernels.cuda import blocks, conv, dropout, losses, matmul, norm, pool, smoothing
from minidl.kernels.numpy import diffusion

__all__ = ["blocks", "conv", "diffusion", "dropout", "losses", "matmul", "norm", "pool", "smoothing"]

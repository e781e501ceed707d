"""The hot kernels in NumPy. They use only functions that CuPy has too, so they also run on its arrays."""

from minidl.kernels.numpy import blocks, conv, diffusion, dropout, losses, matmul, norm, pool, smoothing

__all__ = ["blocks", "conv", "diffusion", "dropout", "losses", "matmul", "norm", "pool", "smoothing"]

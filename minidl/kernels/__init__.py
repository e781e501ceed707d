"""The hot kernels: plain functions on arrays, without a graph. `numpy/` holds their NumPy form."""

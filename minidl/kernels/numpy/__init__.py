"""The hot kernels in NumPy. They use only functions that CuPy has too, so they also run on its arrays."""

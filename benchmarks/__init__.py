"""Measurements against other libraries. They need PyTorch: `pip install ".[bench]"`."""

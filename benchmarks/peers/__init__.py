"""Other frameworks written in Python: LeNet-5's training step in each, each in a virtual environment of its own.

To add one, add a line to `PEERS` and a script beside it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SETUP = ("setuptools==65.5.0", "wheel==0.45.1")  # what old source packages are built with


@dataclass(frozen=True)
class Peer:
    """A library, what pip installs for it, and what else it needs."""

    name: str
    script: str
    packages: tuple[str, ...]
    newest_python: tuple[int, int] | None = None
    program: str | None = None  # that it calls


NUMPY = f"numpy=={np.__version__}"
OLD_NUMPY = "numpy==1.23.5"
PEERS = (
    Peer("MyGrad", "with_mygrad.py", ("mygrad==2.5.0", NUMPY)),
    Peer("autograd", "with_autograd.py", ("autograd==1.9.1", "scipy", NUMPY)),
    Peer("tinygrad", "with_tinygrad.py", ("tinygrad==0.14.0", NUMPY), program="clang"),
    Peer("DeZero", "with_dezero.py", ("dezero==0.0.13", "matplotlib==3.7.5", OLD_NUMPY), newest_python=(3, 11)),
    Peer("Chainer", "with_chainer.py", ("chainer==7.8.1", OLD_NUMPY), newest_python=(3, 11)),
)

"""A library's end of the pipe: its training step, called when the other end says so.

This file and the scripts beside it run in each library's own environment: Python from 3.8, NumPy, and that library. A
script gives `serve` a function `build(weights, rate, momentum)`, which returns `step(x, labels)`: one step of gradient
descent with momentum, at first from those weights, which returns the loss before it, as a number.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import time
from importlib.metadata import version

import numpy as np


def serve(build, package, channels_first=True):
    """Answer one JSON line in the second argument's pipe for each on standard input, until there are no more.

    At first, the versions; for {"losses": n}, the losses of the next n steps; for {"seconds": s}, the mean time of
    steps for so long.
    """
    answers = os.fdopen(int(sys.argv[2]), "w", encoding="utf-8")  # a library may print to the standard output
    problem = np.load(sys.argv[1])
    weights = {name: problem[name] for name in problem.files if "." in name}
    x = problem["x"]
    if channels_first:
        x, weights = np.ascontiguousarray(np.moveaxis(x, -1, 2)), _channels_first(weights)
    step = build(weights, float(problem["rate"]), float(problem["momentum"]))
    batches = itertools.cycle(list(zip(x, problem["labels"])))  # noqa: B905, which needs Python 3.10

    def losses(count):
        return [float(step(*next(batches))) for _ in range(count)]

    def seconds(least):
        began, calls, elapsed = time.perf_counter(), 0, 0.0
        while elapsed < least:
            losses(1)
            calls += 1
            elapsed = time.perf_counter() - began
        return elapsed / calls

    commands = {"losses": losses, "seconds": seconds}
    own = getattr(sys.modules[package], "__version__", None) or version(package)
    answer = {"version": own, "NumPy": np.__version__, "Python": sys.version.split()[0]}
    while True:
        print(json.dumps(answer), file=answers, flush=True)
        line = sys.stdin.readline()
        if not line:
            return
        [(command, argument)] = json.loads(line).items()
        answer = commands[command](argument)


def _channels_first(weights):
    """Return convolutions' weights as (out, in, kh, kw), and dense1's with its inputs, the pixels, in that order."""

    def turned(name, w):
        if name == "dense1.weight":
            return w.reshape(4, 4, 16, -1).transpose(2, 0, 1, 3).reshape(w.shape)
        return w.transpose(3, 2, 0, 1) if w.ndim == 4 else w

    return {name: np.ascontiguousarray(turned(name, w)) for name, w in weights.items()}

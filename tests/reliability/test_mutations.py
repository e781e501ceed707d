"""The command that breaks the code: it breaks what it says, and tells who noticed."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest
from reliability import mutants

ROOT = Path(__file__).parents[2]

PYTHON = '''\
"""A docstring of 3 words."""

Rate = float | None


def rule(x, g, eps: float = 1e-8, n: int | None = None, *, axis=-1):
    """Return x − 2 g."""
    if n is not None and n < 3:
        raise ValueError(f"n is {n + 1}, expected 3")
    W = -x.sum(axis=axis, keepdims=True) / np.sqrt(g**2 + eps)
    count[0] += 1
    check(x)
    return W if x else g
'''
BROKEN = """\
    if n is None and n < 3:
    if n is not None or n < 3:
    if n is not None and n <= 3:
    if n is not None and n < 4:
    if n is not None and n < (2):
    if not (n is not None and n < 3):
    W = (x.sum(axis=axis, keepdims=True)) / np.sqrt(g**2 + eps)
    W = -x.max(axis=axis, keepdims=True) / np.sqrt(g**2 + eps)
    W = -x.sum(keepdims=True) / np.sqrt(g**2 + eps)
    W = -x.sum(axis=axis, ) / np.sqrt(g**2 + eps)
    W = -x.sum(axis=axis, keepdims=False) / np.sqrt(g**2 + eps)
    W = -x.sum(axis=axis, keepdims=True) * np.sqrt(g**2 + eps)
    W = (-x.sum(axis=axis, keepdims=True))
    W = -x.sum(axis=axis, keepdims=True) / np.abs(g**2 + eps)
    W = -x.sum(axis=axis, keepdims=True) / (np.sqrt(g**2) + eps)
    W = -x.sum(axis=axis, keepdims=True) / np.sqrt(g*2 + eps)
    W = -x.sum(axis=axis, keepdims=True) / np.sqrt(g**3 + eps)
    W = -x.sum(axis=axis, keepdims=True) / np.sqrt(g**(1) + eps)
    W = -x.sum(axis=axis, keepdims=True) / np.sqrt(g**2 - eps)
    W = -x.sum(axis=axis, keepdims=True) / np.sqrt((g**2))
    W = -x.sum(axis=axis, keepdims=True) / np.sqrt((eps))
    count[0] -= 1
    count[0] = 1
    count[1] += 1
    count[(-1)] += 1
    count[0] += 2
    count[0] += (0)
    pass
    return W if not (x) else g
def rule(x, g, eps: float = 2e-08, n: int | None = None, *, axis=-1):
def rule(x, g, eps: float = 1e-8, n: int | None = None, *, axis=(1)):
def rule(x, g, eps: float = 1e-8, n: int | None = None, *, axis=-2):
def rule(x, g, eps: float = 1e-8, n: int | None = None, *, axis=-(0)):
"""

CUDA = """\
// 1 + 1
template <int N> __global__ void scale(const float *x, int n) {
    const int i = blockIdx.x * 32 + threadIdx.x;
    if (i < n && x[i] != 0.5) y[i] += -x[i];
    __syncthreads();
}
"""
BROKEN_CUDA = """\
    const int i = blockIdx.x + 32 + threadIdx.x;
    const int i = blockIdx.x * 33 + threadIdx.x;
    const int i = blockIdx.x * 32 - threadIdx.x;
    if (i <= n && x[i] != 0.5) y[i] += -x[i];
    if (i < n || x[i] != 0.5) y[i] += -x[i];
    if (i < n && x[i] == 0.5) y[i] += -x[i];
    if (i < n && x[i] != 1.0) y[i] += -x[i];
    if (i < n && x[i] != 0.5) y[i] = -x[i];
    if (i < n && x[i] != 0.5) y[i] += x[i];
    ;
"""


@pytest.mark.parametrize(("name", "source", "broken"), [("a.py", PYTHON, BROKEN), ("a.cu", CUDA, BROKEN_CUDA)])
def test_every_line_is_broken_in_every_way_and_nothing_that_describes(tmp_path, name, source, broken):
    (tmp_path / name).write_text(source)
    found = mutants.of_file(tmp_path, name)
    lines = [mutant.of(source).splitlines()[mutant.line - 1] for mutant in found]
    assert sorted(lines) == sorted(broken.splitlines())
    assert [mutant.line for mutants_of_line in mutants.per_line(found) for mutant in mutants_of_line] == sorted(
        mutant.line for mutant in found
    )
    for mutant in found:
        if name.endswith(".py"):
            ast.parse(mutant.of(source))


def test_what_is_explained_is_there():
    for entry in json.loads((ROOT / "tests/reliability/equivalent.json").read_text(encoding="utf-8")):
        lines = [line.strip() for line in (ROOT / entry["path"]).read_text(encoding="utf-8").splitlines()]
        assert entry["line"] in lines, entry
        assert entry["because"]


def mutations(*arguments):
    command = [sys.executable, str(ROOT / "tests/reliability/mutations.py"), "--processes", "1", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)


@pytest.mark.slow
def test_the_tests_notice_what_is_broken_in_a_simple_rule(tmp_path):
    pytest.importorskip("pytest_cov", reason="needs the extra 'reliability': pip install '.[reliability]'")
    report, kept = tmp_path / "report.json", tmp_path / "map"
    shared = ["--tests", "tests/optim/test_clipping.py", "--map", str(kept), "--report", str(report)]
    done = mutations("--only", "minidl/optim/clipping.py", "--mutants", "4", *shared)
    found = [outcome["what"] for outcome in json.loads(report.read_text())]
    assert len(found) == 4
    assert found.count("killed") >= 2, "the others are on the path of a GPU, which has tests elsewhere"
    assert done.returncode == (1 if "survived" in found else 0), done.stdout + done.stderr
    assert "all pass on the code as it is" in done.stdout

    done = mutations("--only", "minidl/ops/smoothing.py", "--mutants", "1", *shared)  # which those tests do not use
    assert done.returncode == 1, done.stdout + done.stderr
    assert [outcome["what"] for outcome in json.loads(report.read_text())] == ["no test"]
    assert done.stdout.count("no test: minidl/ops/smoothing.py:") == 2, "when it is tried, and at the end"

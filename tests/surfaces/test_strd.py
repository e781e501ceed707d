"""NIST's non-linear regression set: Levenberg–Marquardt with exact Jacobians finds every certified parameter."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path

import numpy as np
import pytest

import minidl as ml
from minidl import optim, surfaces

LIMITS = {("MGH10", 0): 10_000}  # its curved valley takes 7,833 steps

NAMES = [
    "Bennett5", "BoxBOD", "Chwirut1", "Chwirut2", "DanWood", "ENSO", "Eckerle4", "Gauss1", "Gauss2", "Gauss3", "Hahn1",
    "Kirby2", "Lanczos1", "Lanczos2", "Lanczos3", "MGH09", "MGH10", "MGH17", "Misra1a", "Misra1b", "Misra1c", "Misra1d",
    "Nelson", "Rat42", "Rat43", "Roszman1", "Thurber",
]  # fmt: skip


def fitted(problem, start, steps):
    """Fit with the default settings until W stays where it is."""
    b = ml.Tensor(np.array(problem.starts[start]), requires_grad=True)
    optimizer = optim.LevenbergMarquardt([b])
    for _ in range(steps):
        before = optimizer.weights
        optimizer.step(lambda: problem.residuals(b))
        if (np.abs(optimizer.weights - before) <= 1e-15 * np.abs(before)).all():
            break
    return optimizer.weights


@pytest.mark.data
def test_all_27_files_are_there():
    assert sorted(surfaces.strd_names()) == sorted(NAMES)


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "start"),
    [
        pytest.param(name, start, marks=[pytest.mark.slow] if (name, start) in LIMITS else [])
        for name in NAMES
        for start in (0, 1)
    ],
)
def test_at_least_six_digits_in_every_parameter(name, start):
    problem = surfaces.strd(name)
    assert problem.digits(fitted(problem, start, LIMITS.get((name, start), 600))) >= 6


@pytest.mark.data
@pytest.mark.parametrize("name", NAMES)
def test_the_residuals_at_the_certified_parameters_give_the_certified_sum_of_squares(name):
    """So that the formula was read as NIST means it."""
    problem = surfaces.strd(name)
    text = Path(os.environ["MINIDL_DATA"], "nist-strd", f"{name}.dat").read_text()
    certified = float(re.search(r"Residual Sum of Squares:\s+(\S+)", text)[1])
    total = float((problem.residuals(ml.Tensor(np.array(problem.certified))).data ** 2).sum())
    tolerance = 1e-5 if certified > 1e-20 else 1  # below, the sum is the rounding of 11 digits
    assert total == pytest.approx(certified, rel=tolerance, abs=1e-19)


FILE = """NIST/ITL StRD
Dataset Name:  Line (Line.dat)

File Format:   ASCII
               Starting Values   (lines 14 to 15)
               Certified Values  (lines 14 to 16)
               Data              (lines 18 to 21)

Description:   Made up.

Model:         Linear
               y = b1 + b2*[x]**2/2  +  e

  b1 =   1          2          3.0E+00  1.0E-02
  b2 =   1          2          -2.0E+00  1.0E-02

Data:   y              x
      3.0        0
      2.0        1
      -1.0       2
      -6.0       3
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "nist-strd").mkdir()
    (tmp_path / "nist-strd" / "Line.dat").write_text(FILE)
    return tmp_path


def test_a_file_is_read(folder):
    problem = surfaces.strd("Line", folder)
    assert problem.formula == "y = b1 + b2*[x]**2/2 + e"
    assert problem.starts == ((1, 1), (2, 2))
    assert problem.certified == (3, -2)
    np.testing.assert_array_equal(problem.x["x"], [0, 1, 2, 3])
    np.testing.assert_array_equal(problem.residuals(ml.Tensor(np.array([3.0, -2.0]))).data, 0)
    np.testing.assert_allclose(fitted(problem, 0, 20), [3, -2], rtol=1e-10)


def test_digits():
    problem = surfaces.Regression("p", "y = b1 + e", np.ones(1), {}, ((0.0,), (0.0,)), (2.0,))
    assert problem.digits([2.0]) == 11
    assert problem.digits([2.002]) == pytest.approx(3)
    assert problem.digits([math.nan]) == -math.inf


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (FILE.replace("b2*[x]", "__import__('os')"), 'formula contains "__import__'),
        (FILE.replace("b2*[x]", "b2*z"), "formula contains 'z'"),
        (FILE.replace("b2*[x]", "b2.real"), "formula contains"),
        (FILE.replace("b2*[x]", "b2 if x else 1"), "formula contains"),
        (FILE.replace("+  e", ""), "no model"),
        (FILE[:-40], "Data should end on line 21"),
        (FILE.replace("(lines 18 to 21)", ""), "header names no lines for Data"),
        (FILE.replace("2.0        1", "two        1"), "could not convert"),
        ("", "header names no lines"),
    ],
)
def test_a_foreign_or_hostile_file_is_a_clear_error(folder, broken, message):
    path = folder / "nist-strd" / "Line.dat"
    path.write_text(broken)
    with pytest.raises(ValueError, match=f"strd: .*Line.dat is not a file of NIST's.*({message})"):
        surfaces.strd("Line", folder)


def test_a_missing_file_or_folder_is_a_clear_error(folder, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"strd: there is no .*nist-strd/Curve.dat"):
        surfaces.strd("Curve", folder)
    monkeypatch.delenv("MINIDL_DATA", raising=False)
    with pytest.raises(FileNotFoundError, match="MINIDL_DATA is not set"):
        surfaces.strd_names()

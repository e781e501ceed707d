"""Long trainings grow in nothing, and those that are killed lose nothing: the short forms of two commands."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def said_by(script, *arguments):
    command = [sys.executable, str(HERE / script), *arguments]
    process = subprocess.run(command, capture_output=True, text=True, timeout=1200, check=False)
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout


@pytest.mark.slow
def test_nothing_grows_in_two_thousand_steps():
    assert "nothing grows after step 400" in said_by("long_run.py", "--quick")


@pytest.mark.slow
@pytest.mark.parametrize(("part", "kills"), [("training", 3), ("download", 4), ("study", 1)])
def test_nothing_is_lost_in_a_few_kills(part, kills):
    assert "whole, equal, clean" in said_by("crashes.py", "--kills", str(kills), "--seed", "1", "--only", part)

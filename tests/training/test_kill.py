"""A training whose process is killed by SIGKILL goes on as if it had never stopped, to the last bit."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from minidl import training

RUN = Path(__file__).parent / "resumable_run.py"
ROOT = Path(__file__).parents[2]


def start(folder, kind):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, str(RUN), str(folder), kind]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def left_by(process, folder):
    """Return the temporary files of a process."""
    return [name for name in os.listdir(folder) if re.match(rf"\.run-\w+-{process.pid}-\w+\.minidl-tmp", name)]


def kill_at(process, folder, step, in_write, pause):
    """Kill the process when it has made this step: after a pause, or when it next writes a checkpoint.

    Return whether it was killed; on a busy machine it may have been faster than its murderer.
    """
    for line in process.stdout:
        if int(line) >= step:
            break
    if in_write:
        while process.poll() is None and not left_by(process, folder):
            pass
    time.sleep(pause)
    process.kill()
    process.communicate(timeout=60)
    return process.returncode == -signal.SIGKILL


def result(folder):
    with np.load(folder / "result.npz") as arrays:
        return dict(arrays), json.loads((folder / "result.json").read_text())


def finish(folder, kind):
    process = start(folder, kind)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return result(folder)


def survives(tmp_path, kind, kills):
    """Kill a run so many times, every second time inside a write, and compare it with one that was left alone."""
    apart, folder = tmp_path / "apart", tmp_path / "killed"
    apart.mkdir()
    folder.mkdir()
    arrays, plain = finish(apart, kind)
    draw = random.Random(kills)
    path, killed_in_write, reached = folder / "run.safetensors", 0, []
    for kill in range(kills):
        step = 1 + (70 - 20) * kill // kills + draw.randrange(4)
        in_write = kill % 2 == 1
        before = path.read_bytes() if path.exists() else None
        for _ in range(20):
            process = start(folder, kind)
            if kill_at(process, folder, step, in_write, draw.uniform(0, 0.003 if in_write else 0.02)):
                break
            path.unlink() if before is None else path.write_bytes(before)
        else:
            pytest.fail("it was done before it could be killed, 20 times in a row")
        killed_in_write += len(left_by(process, folder))
        assert len(list(folder.glob(".run-*"))) <= 1, "the next one that writes clears up"
        if path.exists():
            history = training.History()
            training.load_checkpoint(path, history=history)
            reached.append(len(history.steps))
    again, plain_again = finish(folder, kind)
    assert killed_in_write, "no kill has hit a write"
    assert reached == sorted(reached)
    assert reached[-1] > 30
    assert arrays.keys() == again.keys()
    for name in arrays:
        np.testing.assert_array_equal(again[name], arrays[name], strict=True)
    assert plain_again == plain
    assert sorted(os.listdir(folder)) == ["result.json", "result.npz", "run.safetensors"]


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_ends_as_if_it_had_not_been(tmp_path):
    survives(tmp_path, "nesterov", kills=6)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["nesterov", "adam"])
def test_a_run_survives_many_kills(tmp_path, kind):
    survives(tmp_path, kind, kills=24)

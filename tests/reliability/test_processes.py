"""Processes that die, and processes that share an output folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

WORKER_KILLED = """
import os, signal, sys
from pathlib import Path
from minidl.studies import pool
from minidl.studies.recipe import Recipe
from minidl.studies.run import Run

def die(*arguments):
    with pool._stop._cond:  # the lock of whatever event tells a worker to stop: SIGKILL may hit just here
        os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    pool._train = die
    runs = [Run(Recipe("mlp", "mlp(8)", "SGD", rate="0.01", epochs=2), "digits", seed=seed) for seed in (0, 1, 2)]
    list(pool.carry_out(runs, Path(sys.argv[1]), processes=2))
"""


KILLED_AT_THE_END = """
import os, pickle, signal, sys
from multiprocessing import queues
from pathlib import Path
from minidl.studies import pool
from minidl.studies.recipe import Recipe
from minidl.studies.run import Run

def get(self, block=True, timeout=None):
    with self._rlock:
        item = pickle.loads(self._recv_bytes())
        if item is None:  # that is to say: leave; and the first to hear it is killed with the lock of the queue in hand
            try:
                os.close(os.open(sys.argv[1] + "/killed", os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                return None
            os.kill(os.getpid(), signal.SIGKILL)
        return item

queues.Queue.get = get

if __name__ == "__main__":
    runs = [Run(Recipe("mlp", "mlp(8)", "SGD", rate="0.01", epochs=1), "digits", seed=seed) for seed in (0, 1, 2)]
    print(len(list(pool.carry_out(runs, Path(sys.argv[1]), processes=2))), "records")
"""


STOPPED_WHILE_ANOTHER_IS_IDLE = """
import sys, time
from pathlib import Path
from minidl.studies import pool
from minidl.studies.recipe import Recipe
from minidl.studies.run import Run

folder, stop = Path(sys.argv[1]), pool._Stop.on_step

def slowly(self, trainer):
    if pool._stop.is_set():
        time.sleep(2)
        (folder / "step").touch()
    stop(self, trainer)

pool._Stop.on_step = slowly

if __name__ == "__main__":
    runs = [Run(Recipe("mlp", "mlp(8)", "SGD", rate="0.01", epochs=n), "digits") for n in (1, 10_000)]
    for number, record in pool.carry_out(runs, folder, processes=2):
        break  # one process is idle, and leaves first; the other has a step and a checkpoint to finish
    print("run", number)
"""


@pytest.mark.slow
def test_a_process_that_leaves_first_does_not_end_another_in_its_step(tmp_path):
    process = ended(STOPPED_WHILE_ANOTHER_IS_IDLE, tmp_path)
    assert (process.returncode, process.stdout, process.stderr) == (0, "run 0\n", "")
    assert sorted(path.suffix for path in tmp_path.iterdir()) == ["", ".json", ".py", ".safetensors"]


def ended(script, folder):
    """Run a script with the folder as its argument, and return the process when it has ended."""
    path = folder / "script.py"
    path.write_text(script, encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(path), str(folder)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, check=False)


@pytest.mark.slow
def test_a_worker_that_is_killed_when_all_is_done_does_not_hang_the_study(tmp_path):
    process = ended(KILLED_AT_THE_END, tmp_path)
    assert (process.returncode, process.stdout, process.stderr) == (0, "3 records\n", "")


@pytest.mark.slow
def test_a_worker_that_is_killed_while_it_asks_whether_to_stop_does_not_hang_the_study(tmp_path):
    process = ended(WORKER_KILLED, tmp_path)
    assert process.returncode == 1
    assert "a process was killed, perhaps for want of memory; the same command goes on" in process.stderr

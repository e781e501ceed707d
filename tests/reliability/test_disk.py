"""A disk that is full, a folder that is read-only, a folder that two share: what was there stays, and the error helps.

The disk is a real one, of memory, where the tests may mount it; elsewhere a limit on the size of files plays it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from minidl import data, files, nn, studies, surfaces, training, viz
from minidl.studies.recipe import Recipe
from minidl.studies.run import Run
from minidl.viz import racing

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def sweep():
    return surfaces.sweep(surfaces.problem("beale"), "sgd", steps=5)


@pytest.fixture
def disk(tmp_path):
    """A disk of 256 kB; None where nobody may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k,mode=777", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    yield folder if mounted else None
    if mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@contextlib.contextmanager
def files_of_at_most(size):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def read_only(disk):
    """Make the disk read-only and return it."""
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    return disk


def history():
    """Return a record of about 100 kB."""
    steps = [{"step": i, "epoch": 1, "loss": 0.1 * i, "rate": 0.01} for i in range(1, 1500)]
    return training.History(steps, [], "epochs done")


def picture(path):
    figure = viz.style.titled_figure(6, 4, "a title", "a line")
    figure.add_subplot().plot(range(100))
    return viz.save(figure, path, dpi=400)


def save_history(path, sweep):
    history().save(path)


def save_checkpoint(path, sweep):
    training.save_checkpoint(path, model=nn.Dense(100, 100))


def save_picture(path, sweep):
    picture(path)


def save_page(path, sweep):
    viz.page.write_race_page(sweep, path)


WRITERS = {
    "run.jsonl": save_history,
    "run.safetensors": save_checkpoint,
    "plot.png": save_picture,
    "page.html": save_page,
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_is_told_with_the_file_and_the_old_one_stays(disk, sweep, name):
    if disk is None:
        pytest.skip("no disk can be mounted here")
    path = disk / name
    path.write_bytes(b"old")
    space = os.statvfs(disk)
    filler = disk / "filler"
    filler.write_bytes(bytes((space.f_bavail - 2) * space.f_bsize))  # two pages are left
    with pytest.raises(OSError, match="No space left on device") as caught:
        WRITERS[name](path, sweep)
    assert str(path) in str(caught.value)
    assert "minidl-tmp" not in str(caught.value)
    assert path.read_bytes() == b"old"
    assert sorted(os.listdir(disk)) == sorted(["filler", name])
    filler.unlink()
    WRITERS[name](path, sweep)  # there is room again
    assert path.stat().st_size > 8192
    assert os.listdir(disk) == [name]


@pytest.mark.parametrize("name", WRITERS)
def test_a_file_that_may_not_grow_is_told_and_the_old_one_stays(tmp_path, sweep, name):
    path = tmp_path / name
    path.write_bytes(b"old")
    with pytest.raises(OSError, match="File too large") as caught, files_of_at_most(5000):
        WRITERS[name](path, sweep)
    assert str(path) in str(caught.value)
    assert "minidl-tmp" not in str(caught.value)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("name", WRITERS)
def test_a_disk_that_is_read_only_is_told_and_the_old_file_stays(disk, sweep, name):
    if disk is None:
        pytest.skip("no disk can be mounted here")
    path = disk / name
    path.write_bytes(b"old")
    read_only(disk)
    with pytest.raises(OSError, match="Read-only file system") as caught:
        WRITERS[name](path, sweep)
    assert str(path) in str(caught.value)
    assert "minidl-tmp" not in str(caught.value)
    assert path.read_bytes() == b"old"


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write everywhere")
@pytest.mark.parametrize("name", WRITERS)
def test_a_folder_without_permission_is_told_with_the_file(tmp_path, sweep, name):
    folder = tmp_path / "folder"
    folder.mkdir()
    path = folder / name
    path.write_bytes(b"old")
    folder.chmod(0o555)
    with pytest.raises(PermissionError) as caught:
        WRITERS[name](path, sweep)
    assert str(path) in str(caught.value)
    assert "minidl-tmp" not in str(caught.value)
    assert path.read_bytes() == b"old"


def test_an_error_that_is_not_of_the_disk_is_raised_as_it_is(tmp_path):
    errors = [FileNotFoundError(2, "No such file", "ffmpeg"), BrokenPipeError(32, "Broken pipe"), OSError("odd")]
    for error in errors:
        with pytest.raises(type(error)) as caught, files.replacing(tmp_path / "file"):
            raise error
        assert caught.value is error


@pytest.mark.parametrize("begin", ["compare", "race", "study"])
def test_an_output_folder_that_cannot_be_written_to_is_told_before_the_work(disk, monkeypatch, begin):
    if disk is None:
        pytest.skip("no disk can be mounted here")

    def work(*arguments, **settings):
        pytest.fail("it was said too late")

    monkeypatch.setattr(training.Trainer, "fit", work)
    monkeypatch.setattr(surfaces, "sweep", work)
    with pytest.raises(OSError, match=rf"out: cannot write to the folder {disk}.*: Read-only file system"):
        BEGIN[begin](read_only(disk))


STUDY = studies.Study(
    "tiny",
    "One network",
    "nowhere",
    lambda options: [Recipe("plain", options.model, "SGD", rate="0.05", batch_size=32, epochs=options.epochs)],
    studies.Options("digits", (1 / 8,), "mlp(8)", epochs=2, trials=2),
    {},
    {},
)


def study(folder):
    return studies.write_report(studies.conduct(STUDY, out=folder))


def compare(folder):
    return studies.compare("sgd", model="mlp", epochs=1, lr="default", out=folder)


def race(folder):
    return racing.race("beale", "sgd", steps=5, pictures="page", out=folder)


BEGIN = {"compare": compare, "race": race, "study": study}


@pytest.mark.slow
@pytest.mark.parametrize("begin", BEGIN)
def test_a_disk_that_fills_up_is_told_with_the_file_and_the_work_goes_on_when_there_is_room(disk, begin):
    if disk is None:
        pytest.skip("no disk can be mounted here")
    space = os.statvfs(disk)
    filler = disk / "filler"
    filler.write_bytes(bytes((space.f_bavail - 3) * space.f_bsize))  # for the folders
    with pytest.raises(OSError, match="No space left on device") as caught:
        BEGIN[begin](disk)
    assert re.search(rf"{disk}/\S+", str(caught.value))
    assert "minidl-tmp" not in str(caught.value)
    for path in disk.rglob("*.json"):
        json.loads(path.read_text(encoding="utf-8"))
    assert not list(disk.rglob(".*minidl-tmp*"))
    filler.unlink()
    subprocess.run(["mount", "-o", "remount,size=16m", str(disk)], check=True)
    for path in BEGIN[begin](disk).files:
        assert path.stat().st_size


# ---------------------------------------------------------------- a folder that several share


def until(condition):
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize("begin", BEGIN)
def test_results_are_written_by_one_at_a_time_so_that_they_are_all_of_one(tmp_path, capfd, begin, monkeypatch):
    full = data.load("digits", size=28)
    part = data.Dataset(full.train_x[:150], full.train_y[:150], full.test_x[:60], full.test_y[:60], full.classes)
    monkeypatch.setattr(data, "load", lambda name, **settings: part)
    said, made = [], []

    def waits():
        said.append(capfd.readouterr().err)
        return "waiting for another process that is" in "".join(said)

    second = threading.Thread(target=lambda: made.append(BEGIN[begin](tmp_path)))
    with files.alone(tmp_path, "writing"):
        second.start()
        until(lambda: waits() or not second.is_alive())
        assert [path for path in tmp_path.iterdir() if path.is_file()] == []
    second.join()
    assert made[0].files
    assert all(path.is_file() for path in made[0].files)


SHARED = """
import json, sys
import numpy as np
from minidl import nn, training
path, value = sys.argv[1], float(sys.argv[2])
model = nn.Dense(200, 200)
for name, parameter in model.named_parameters():
    parameter.data = np.full(parameter.shape, value, np.float32)
history = training.History([{"step": i, "value": value} for i in range(2000)], [], "epochs done")
for _ in range(40):
    training.save_checkpoint(path + ".safetensors", model=model, extra=value)
    history.save(path + ".jsonl")
"""


@pytest.mark.slow
def test_two_processes_that_save_to_one_path_leave_files_of_one_of_them(tmp_path):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", SHARED, str(tmp_path / "run")]
    both = [subprocess.Popen([*command, value], env=environment) for value in ("1", "2")]
    seen = set()
    while any(process.poll() is None for process in both):
        if (tmp_path / "run.jsonl").exists():
            seen |= _values(tmp_path)
    assert [process.wait() for process in both] == [0, 0]
    assert seen == {1.0, 2.0}
    assert sorted(os.listdir(tmp_path)) == ["run.jsonl", "run.safetensors"]


def _values(folder):
    """Return the values in the two files, each of which must be of one process."""
    model = nn.Dense(200, 200)
    value = training.load_checkpoint(folder / "run.safetensors", model=model)
    assert {float(x) for _, parameter in model.named_parameters() for x in parameter.data.ravel()} == {value}
    steps = training.History.load(folder / "run.jsonl").steps
    assert len(steps) == 2000
    (same,) = {step["value"] for step in steps}
    return {value, same}


@pytest.mark.slow
def test_two_processes_that_make_one_run_get_the_same_record(tmp_path):
    script = (
        "import sys; from pathlib import Path; from minidl.studies.recipe import Recipe; "
        "from minidl.studies.run import Run; "
        "Run(Recipe('r', 'mlp(8)', 'SGD', rate='0.05', epochs=20), 'digits', 1 / 8).train(Path(sys.argv[1]))"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    both = [subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], env=environment) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    run = Run(Recipe("r", "mlp(8)", "SGD", rate="0.05", epochs=20), "digits", 1 / 8)
    assert os.listdir(tmp_path) == [f"{run.key}.json"]


def test_a_checkpoint_that_a_kill_has_left_beside_its_record_is_removed(tmp_path):
    run = Run(Recipe("r", "mlp(8)", "SGD", rate="0.05", epochs=1), "digits", 1 / 8)
    record = run.train(tmp_path)
    (tmp_path / f"{run.key}.safetensors").write_bytes(b"of the last epoch")
    assert run.train(tmp_path) == record
    assert os.listdir(tmp_path) == [f"{run.key}.json"]

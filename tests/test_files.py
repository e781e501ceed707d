"""Files are replaced as a whole, on the disk before they have their names, and leave nothing behind."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from minidl import files
from minidl.files import replacing, user_path, writable_folder

ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}


def test_the_file_has_the_old_content_until_it_has_the_new(tmp_path):
    path = tmp_path / "run.txt"
    path.write_text("old")
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".txt", "what writes pictures looks at it"
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["run.txt"]


def test_after_an_error_the_old_file_is_there_and_nothing_else(tmp_path):
    path = tmp_path / "run.txt"
    path.write_text("old")
    with pytest.raises(UnicodeEncodeError), replacing(path) as temporary:
        temporary.write_text("new\ud800", encoding="utf-8")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["run.txt"]


def test_the_content_is_on_the_disk_before_the_name_and_the_name_before_the_end(tmp_path, monkeypatch):
    events = []
    fsync, replace = os.fsync, os.replace

    def flushed(descriptor):
        what = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        events.append("folder" if what == tmp_path else what.read_text())
        fsync(descriptor)

    def replaced(source, target):
        events.append(f"rename over {target.read_text()}")
        replace(source, target)

    (tmp_path / "run.txt").write_text("what was there")
    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(os, "replace", replaced)
    with replacing(tmp_path / "run.txt") as temporary:
        temporary.write_text("all of it")
    assert events == ["all of it", "rename over what was there", "folder"]


def test_a_folder_that_cannot_be_flushed_is_no_error(tmp_path, monkeypatch):
    fsync = os.fsync

    def files_only(descriptor):
        if Path(os.readlink(f"/proc/self/fd/{descriptor}")).is_dir():
            raise OSError(22, "Invalid argument")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", files_only)
    with replacing(tmp_path / "run.txt") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "run.txt").read_text() == "new"


@pytest.fixture
def ended():
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


TOKEN = "0123456789abcdef"


def test_what_killed_processes_left_behind_is_removed_and_nothing_else(tmp_path, ended):
    host, living = files.host_mark(), os.getppid()
    elsewhere = f"{int(host, 16) ^ 1:08x}"
    left = [
        f".run-{host}-{ended}-{TOKEN}.minidl-tmp.txt",
        f".run-{host}-{ended}-{TOKEN}.minidl-tmp",
        f".other-{host}-{ended}-{TOKEN}.minidl-tmp.csv",
        f".-\n-{host}-{ended}-{TOKEN}.minidl-tmp.c\nd",
    ]
    kept = [
        f".run-{host}-{living}-{TOKEN}.minidl-tmp.txt",  # somebody writes it now
        f".run-{host}-{os.getpid()}-{TOKEN}.minidl-tmp.txt",  # another thread does
        f".run-{host}-1-{TOKEN}.minidl-tmp.txt",  # a process that one may not signal, where one is not root
        f".run-{elsewhere}-{ended}-{TOKEN}.minidl-tmp.txt",  # of another host, where that process may live
        f".run-{host}-0-{TOKEN}.minidl-tmp.txt",
        f".run-{host}-{10**30}-{TOKEN}.minidl-tmp.txt",
        f".run-{host}-{ended}-{TOKEN}.tmp.txt",
        f".run-{host}-{ended}-{TOKEN[1:]}.minidl-tmp.txt",
        f".run-{host}-{ended}.minidl-tmp.txt",
        f"run-{host}-{ended}-{TOKEN}.minidl-tmp.txt",
        f".run-{ended}.txt",
        f".run-{ended}",
        ".run-2024",
        ".run-.txt",
    ]
    for name in left + kept:
        (tmp_path / name).write_text("")
    with replacing(tmp_path / "run.txt") as temporary:
        temporary.write_text("new")
    assert sorted(os.listdir(tmp_path)) == sorted([*kept, "run.txt"])


def test_a_leftover_that_cannot_be_removed_is_no_error(tmp_path, ended):
    names = [f".{name}-{files.host_mark()}-{ended}-{TOKEN}.minidl-tmp" for name in "abc"]
    for name in names:
        (tmp_path / name).mkdir() if name == names[1] else (tmp_path / name).write_text("")
    with replacing(tmp_path / "run") as temporary:
        temporary.write_text("new")
    assert sorted(os.listdir(tmp_path)) == [names[1], "run"]


def test_the_temporary_name_is_one_that_is_removed_when_its_process_has_ended(tmp_path):
    script = "import os, sys; from minidl.files import replacing\n"
    script += "with replacing(sys.argv[1]) as path: path.write_text('half'); os._exit(9)"
    for name in ("run.txt", "r*n[1].x+y", "run", ".hidden", "é" * 120):
        path = tmp_path / name
        assert subprocess.run([sys.executable, "-c", script, path], env=ENVIRONMENT).returncode == 9
        (left,) = os.listdir(tmp_path)
        assert ".minidl-tmp" in left
        assert Path(left).suffix == (path.suffix or ".minidl-tmp")
        with replacing(path) as temporary:
            temporary.write_text("new")
        assert os.listdir(tmp_path) == [name]
        path.unlink()


def test_two_hosts_and_two_containers_have_different_marks(monkeypatch):
    marks = set()
    for host in ("one", "two"):
        for space in ("pid:[4026531836]", "pid:[4026532001]"):
            monkeypatch.setattr("socket.gethostname", lambda host=host: host)
            monkeypatch.setattr("os.readlink", lambda path, space=space: space)
            marks.add(files.host_mark.__wrapped__())
    assert len(marks) == 4


def test_threads_may_write_one_path_while_another_reads_it(tmp_path):
    path, texts = tmp_path / "run.txt", [letter * 200_000 for letter in "abc"]
    path.write_text(texts[0])
    done = threading.Event()

    def write(text):
        for _ in range(30):
            with replacing(path) as temporary:
                temporary.write_text(text)

    def read():
        seen = set()
        while not done.is_set():
            seen.add(path.read_text())
        return seen

    with ThreadPoolExecutor(4) as pool:
        reader = pool.submit(read)
        try:
            list(pool.map(write, texts))
        finally:
            done.set()
        assert reader.result() <= set(texts)
    assert os.listdir(tmp_path) == ["run.txt"]


def test_the_last_one_to_end_wins(tmp_path):
    path = tmp_path / "run.txt"
    with replacing(path) as first:
        with replacing(path) as second:
            second.write_text("second")
            first.write_text("first")
        assert path.read_text() == "second"
    assert path.read_text() == "first"


def test_a_link_stays_and_what_it_points_to_is_replaced(tmp_path):
    (tmp_path / "store").mkdir()
    for name in ("old.txt", "new.txt"):
        (tmp_path / "store" / "old.txt").write_text("old")
        link = tmp_path / f"link to {name}"
        link.symlink_to(Path("store") / name)  # relative, and the second one to nothing
        with replacing(link) as temporary:
            assert temporary.parent == tmp_path / "store", "or the rename might go from one disk to another"
            temporary.write_text("new")
        assert os.readlink(link) == f"store/{name}"
        assert link.read_text() == "new"
    assert sorted(os.listdir(tmp_path / "store")) == ["new.txt", "old.txt"]


def test_a_missing_folder_is_named_and_not_the_temporary_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("")
    for path, kind, message in (
        ("no/g.png", FileNotFoundError, "the folder no does not exist: 'no/g.png'"),
        ("file/g.png", NotADirectoryError, "the folder file is none: 'file/g.png'"),
    ):
        with pytest.raises(kind, match=message) as caught, replacing(path):
            pytest.fail("it is said before the work is done")
        assert "tmp" not in str(caught.value)
    assert os.listdir() == ["file"]


def test_a_name_without_a_folder_is_in_the_current_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with replacing("run") as temporary:
        temporary.write_text("new")
    assert os.listdir() == ["run"]


def test_a_path_of_a_user_has_a_home_and_is_a_path(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert user_path("~/run.st", "me") == Path("/home/me/run.st")
    assert user_path(Path("~/run.st"), "me") == Path("/home/me/run.st")
    assert user_path("run~.st", "me") == Path("run~.st")
    for wrong in (True, None, 3, b"run"):
        with pytest.raises(TypeError, match=f"me: resume is {wrong!r}, expected a path"):
            user_path(wrong, "me", "resume")


def test_a_folder_is_made_and_one_that_cannot_be_is_named(tmp_path):
    assert writable_folder(tmp_path / "a" / "b", "me").is_dir()
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="me: cannot write to the folder .*file"):
        writable_folder(tmp_path / "file" / "folder", "me")

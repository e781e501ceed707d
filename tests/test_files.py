"""Files are replaced as a whole, on the disk before they have their names, and leave nothing behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from minidl.files import replacing, writable_folder


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


def test_what_killed_processes_left_behind_is_removed_and_nothing_else(tmp_path, ended):
    living = os.getppid()
    left = [f".run-{ended}.txt"]
    kept = [
        f".run-{living}.txt",  # somebody writes it now
        ".run-1.txt",  # a process that one may not signal, where one is not root
        f".run-{ended}.csv",  # that of another file
        f".run-2-{ended}.txt",
        f".other-{ended}.txt",
        f"run-{ended}.txt",
        f".run-{ended}.txt.txt",
        ".run-.txt",
        ".run-0.txt",
        f".run-{10**30}.txt",
        ".run-last.txt",
    ]
    for name in left + kept:
        (tmp_path / name).write_text("")
    with replacing(tmp_path / "run.txt") as temporary:
        temporary.write_text("new")
    assert sorted(os.listdir(tmp_path)) == sorted([*kept, "run.txt"])


def test_a_name_with_special_characters_is_taken_as_it_is(tmp_path, ended):
    (tmp_path / f".r*n[1]-{ended}.x+y").write_text("")
    (tmp_path / f".ran1-{ended}.xxy").write_text("")
    with replacing(tmp_path / "r*n[1].x+y") as temporary:
        temporary.write_text("new")
    assert sorted(os.listdir(tmp_path)) == [f".ran1-{ended}.xxy", "r*n[1].x+y"]


def test_a_name_without_a_folder_is_in_the_current_one(tmp_path, monkeypatch, ended):
    monkeypatch.chdir(tmp_path)
    Path(f".run-{ended}").write_text("")
    with replacing("run") as temporary:
        temporary.write_text("new")
    assert os.listdir() == ["run"]


def test_a_folder_is_made_and_one_that_cannot_be_is_named(tmp_path):
    assert writable_folder(tmp_path / "a" / "b", "me").is_dir()
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="me: cannot write to the folder .*file"):
        writable_folder(tmp_path / "file" / "folder", "me")

"""Asking for memory before an allocation that would not fit."""

from __future__ import annotations

import pytest

from minidl import memory


def test_what_is_available_is_plausible():
    assert 2**26 < memory.available() < 2**50


def test_a_container_s_limit_counts(tmp_path, monkeypatch):
    (tmp_path / "memory.max").write_text("3000\n")
    (tmp_path / "memory.current").write_text("1500\n")
    (tmp_path / "memory.stat").write_text("file 700\ninactive_file 500\n")  # cache, given back when it is needed
    real = memory.Path
    monkeypatch.setattr(
        memory, "Path", lambda *parts: real(*parts) if parts[0] == "/proc/meminfo" else tmp_path / parts[-1]
    )
    assert memory.available() == 2000
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.available() > 2**26


def test_require_names_who_what_and_how_much():
    memory.require(1000, "solve", "a matrix")
    with pytest.raises(
        MemoryError, match=r"solve: a matrix would take 1e\+09 TiB|solve: a matrix would take .* TiB, but only .* are"
    ):
        memory.require(2**80, "solve", "a matrix")


@pytest.mark.parametrize(
    ("count", "text"), [(10, "10 bytes"), (2048, "2 KiB"), (1.5 * 2**30, "1.5 GiB"), (2**50, "1,024 TiB")]
)
def test_readable(count, text):
    assert memory.readable(count) == text

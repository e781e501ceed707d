"""Downloads into the cache: complete and verified, or not there, whatever happens."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import os
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

from minidl import data
from minidl.cli import main
from minidl.data import fetching, places, sources
from minidl.data.sources import Download

from data_files import mnist_files, write

FILES = mnist_files()
IMAGES = "train-images-idx3-ubyte.gz"


def served(url, files=FILES, mirrors=()):
    """Return MNIST with a server's files as the published ones."""
    downloads = tuple(
        Download(
            name,
            tuple(f"{place}/{name}" for place in (*mirrors, url)),
            len(content),
            "sha256:" + hashlib.sha256(content).hexdigest(),
        )
        for name, content in files.items()
    )
    return dataclasses.replace(sources.MNIST, downloads=downloads)


@pytest.fixture
def web(server, monkeypatch):
    """A server that has MNIST; nothing of it is elsewhere."""
    server.files = dict(FILES)
    monkeypatch.delenv("MINIDL_DATA", raising=False)
    monkeypatch.setitem(sources.SOURCES, "mnist", served(server.url))
    return server


def in_the_cache():
    return sorted(path.name for path in places.cache().rglob("*") if path.is_file())


def test_what_is_nowhere_is_fetched_once(web, capsys):
    dataset = data.load("mnist")
    assert dataset.train_x.shape == (5, 28, 28, 1)
    assert sorted(web.asked) == sorted(f"/{name}" for name in FILES)
    assert in_the_cache() == sorted(FILES), "and nothing besides"
    assert (places.cache() / "mnist" / IMAGES).read_bytes() == FILES[IMAGES]
    assert capsys.readouterr().err.count("fetching ") == 4, "it says what it does"
    np.testing.assert_array_equal(data.load("mnist").train_x, dataset.train_x)
    assert len(web.asked) == 4


def test_only_what_is_missing_is_fetched(web):
    write(places.cache() / "mnist", {IMAGES: FILES[IMAGES]})
    data.load("mnist")
    assert len(web.asked) == 3
    assert f"/{IMAGES}" not in web.asked


def test_nothing_is_fetched_where_it_is_not_asked_for(web, tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="mnist, which does not exist"):
        data.load("mnist", tmp_path)
    write(tmp_path / "mnist", FILES)
    monkeypatch.setenv("MINIDL_DATA", str(tmp_path))
    data.load("mnist")
    assert web.asked == []


def test_another_checksum_names_the_file_and_both_and_leaves_nothing(web):
    web.files[IMAGES] = FILES[IMAGES][:-1] + b"?"
    got, expected = (hashlib.sha256(files[IMAGES]).hexdigest() for files in (web.files, FILES))
    with pytest.raises(
        ValueError,
        match=rf"{IMAGES} from {web.url}/{IMAGES} has the checksum sha256:{got} .* expected sha256:{expected}",
    ):
        data.load("mnist")
    assert in_the_cache() == []
    web.files = dict(FILES)
    data.load("mnist")


def test_a_file_longer_than_published_is_not_taken_to_its_end(web):
    web.files[IMAGES] = FILES[IMAGES] + bytes(50_000_000)
    with pytest.raises(ValueError, match=rf"{IMAGES} is more than {len(FILES[IMAGES]):,} bytes long"):
        data.load("mnist")
    assert in_the_cache() == []


def test_a_connection_that_breaks_off_leaves_nothing(web):
    web.cut = True
    with pytest.raises(ConnectionError, match=f"cannot download {IMAGES} of 'mnist'"):
        data.load("mnist")
    assert in_the_cache() == []


def test_without_a_network_the_message_says_what_to_do(web, monkeypatch):
    monkeypatch.setitem(sources.SOURCES, "mnist", served("http://127.0.0.1:9"))
    with pytest.raises(ConnectionError) as caught:
        data.load("mnist")
    message = str(caught.value)
    for part in ("http://127.0.0.1:9/", str(places.cache() / "mnist"), "environment variable MINIDL_DATA"):
        assert part in message
    assert f"put {', '.join(FILES)} into the folder" in message
    assert message.endswith(f"with a folder mnist that holds {', '.join(FILES)}")
    write(places.cache() / "mnist", {IMAGES: FILES[IMAGES]})
    rest = ", ".join(name for name in FILES if name != IMAGES)
    with pytest.raises(ConnectionError, match=f"put {rest} into the folder"):
        data.load("mnist")
    write(places.cache() / "mnist", FILES)  # as it says
    data.load("mnist")


def test_another_place_is_tried_where_the_first_does_not_answer_or_has_no_such_file(web, monkeypatch):
    broken = served(web.url, mirrors=["http://127.0.0.1:9", f"{web.url}/elsewhere"])
    monkeypatch.setitem(sources.SOURCES, "mnist", broken)
    data.load("mnist")
    assert f"/elsewhere/{IMAGES}" in web.asked
    assert in_the_cache() == sorted(FILES)


def test_a_full_disk_leaves_nothing_half_written(web, monkeypatch):
    class Full(fetching._Received):
        def write(self, chunk):
            self.sink.write(chunk[:100])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(fetching, "_Received", Full)
    with pytest.raises(OSError, match=rf"cannot write \S*{IMAGES}: No space left on device") as caught:
        data.load("mnist")
    assert caught.value.errno == errno.ENOSPC
    assert in_the_cache() == []


def test_a_cache_that_cannot_be_written_to_is_named(web, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(OSError, match=r"data.fetch: cannot write to the folder \S*file/minidl/mnist"):
        data.load("mnist")


BROKEN = {"cut": FILES[IMAGES][:40], "changed": FILES[IMAGES][:-1] + b"?", "empty": b"", "foreign": b"<html>"}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_a_broken_file_in_the_cache_is_named_and_fetched_again_on_request(web, capsys, content):
    write(places.cache() / "mnist", FILES | {IMAGES: content})
    with pytest.raises(ValueError, match=rf"{IMAGES} .*; `minidl data fetch mnist` gets it again"):
        data.load("mnist")
    assert main(["data", "fetch", "mnist"]) == 0
    assert f"{IMAGES} is not the file that was published; fetching it again" in capsys.readouterr().err
    assert web.asked == [f"/{IMAGES}"]
    assert (places.cache() / "mnist" / IMAGES).read_bytes() == FILES[IMAGES]
    data.load("mnist")


def test_a_broken_file_elsewhere_is_not_said_to_be_fetched_again(web, tmp_path):
    write(tmp_path / "mnist", FILES | {IMAGES: b""})
    with pytest.raises(ValueError, match=IMAGES) as caught:
        data.load("mnist", tmp_path)
    assert "minidl data fetch" not in str(caught.value)


def test_a_broken_unpacked_file_that_is_read_first_is_named(web, capsys):
    plain = IMAGES.removesuffix(".gz")
    folder = write(places.cache() / "mnist", FILES | {plain: b"any"})
    assert main(["data", "fetch", "mnist"]) == 1
    expected = f"{folder / plain} is broken and read instead of what was fetched: remove it"
    assert expected in capsys.readouterr().err
    (folder / plain).unlink()
    assert main(["data", "fetch", "mnist"]) == 0


SCRIPT = """
    import resource, sys
    sys.path.insert(0, "tests")
    from minidl import data
    from minidl.data import sources
    from data_files import mnist_files
    import importlib.util
    spec = importlib.util.spec_from_file_location("test_fetching", "tests/data/test_fetching.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sources.SOURCES["mnist"] = module.served({url!r})
    {before}
    print("ready", flush=True)
    print(data.load("mnist").train_x.sum())
"""


def process(url, before=""):
    code = textwrap.dedent(SCRIPT).format(url=url, before=before)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", code], cwd=os.fspath(ROOT), **pipes)


ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def test_two_processes_at_once_fetch_every_file_once(web):
    web.gate.clear()  # the server answers when both have begun
    both = [process(web.url) for _ in range(2)]
    try:
        for one in both:
            assert one.stdout.readline() == "ready\n"
        time.sleep(0.5)
        web.gate.set()
        results = [one.communicate(timeout=30) for one in both]
    finally:
        for one in both:
            one.kill()
            one.wait()
    assert [one.returncode for one in both] == [0, 0], results
    assert results[0][0] == results[1][0] == f"{data.load('mnist').train_x.sum()}\n"
    assert len(web.asked) == 4
    assert in_the_cache() == sorted(FILES)
    assert sum("waiting for another process" in error for _, error in results) == 1


def test_the_systems_own_refusal_to_write_leaves_nothing(web):
    """A real one: the process may not write files of more than 1,000 bytes."""
    limited = process(web.url, "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))")
    _, error = limited.communicate(timeout=30)
    assert limited.returncode == 1
    assert f"cannot write {places.cache() / 'mnist' / IMAGES}: File too large" in error
    assert in_the_cache() == []


# ---------------------------------------------------------------- the command


def test_fetch_and_where(web, capsys):
    assert main(["data", "where", "mnist"]) == 1
    assert f"mnist is not in {places.cache() / 'mnist'}; `minidl data fetch mnist` gets it" in capsys.readouterr().err
    assert main(["data", "fetch", "mnist"]) == 0
    assert capsys.readouterr().out == f"{places.cache() / 'mnist'}\n"
    assert main(["data", "where", "mnist"]) == 0
    assert capsys.readouterr().out == f"{places.cache() / 'mnist'}\n"
    assert main(["data", "fetch", "digits"]) == 0
    assert capsys.readouterr().out == "digits: in the package, nothing to fetch\n"
    assert main(["data", "fetch", "cats"]) == 1
    assert capsys.readouterr().err.startswith("minidl data: data: name is 'cats', expected one of digits, mnist")


def test_list_and_where_show_all_places(web, capsys, monkeypatch, tmp_path):
    write(tmp_path / "mnist", FILES)
    monkeypatch.setenv("MINIDL_DATA", str(tmp_path))
    assert main(["data", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for name in data.NAMES:
        assert sum(line.startswith(f"│ {name} ") for line in lines) == 1
    assert any(str(tmp_path / "mnist") in line for line in lines)
    assert any("170 MB to fetch" in line for line in lines), "CIFAR-10"
    assert main(["data", "where"]) == 0
    assert capsys.readouterr().out.split() == [str(tmp_path), str(places.cache())]


def test_list_shows_how_many_images_a_subset_has(web, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("MINIDL_DATA", str(tmp_path))
    record = bytes(2 + 32 * 32 * 3)
    write(tmp_path / "cifar100-subset", {"train.bin": 3 * record, "test.bin": 2 * record})

    def row():
        assert main(["data", "list"]) == 0
        line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("│ cifar100 "))
        return [cell.strip() for cell in line.split("│")][2:4]

    assert row() == ["3 (subset)", "2 (subset)"]
    write(tmp_path / "cifar100-subset", {"train.bin": record[1:]})
    assert row() == ["? (subset)", "? (subset)"]
    write(tmp_path / "cifar100", {"train.bin": record, "test.bin": record})
    assert row() == ["50,000", "10,000"]


def test_check_tells_good_files_from_bad_ones(web, capsys, monkeypatch, tmp_path):
    import gzip

    contents = {
        name.removesuffix(".gz"): "sha256:" + hashlib.sha256(gzip.decompress(content)).hexdigest()
        for name, content in FILES.items()
    }
    monkeypatch.setitem(sources.SOURCES, "mnist", dataclasses.replace(served(web.url), parts=contents))
    assert main(["data", "check", "mnist"]) == 1
    assert "mnist: not here" in capsys.readouterr().out
    folder = write(tmp_path / "mnist", FILES)
    monkeypatch.setenv("MINIDL_DATA", str(tmp_path))
    assert main(["data", "check"]) == 0, "those that are not here are not bad"
    assert capsys.readouterr().out.count("  good ") == 4
    (folder / IMAGES).write_bytes(gzip.compress(gzip.decompress(FILES[IMAGES]), 1))
    assert main(["data", "check", "mnist"]) == 0, "compressed in another way, the same content"
    (folder / IMAGES).write_bytes(gzip.compress(gzip.decompress(FILES[IMAGES])[:-1] + b"?"))
    (folder / IMAGES.replace("images-idx3", "labels-idx1")).write_bytes(b"nonsense")
    capsys.readouterr()
    assert main(["data", "check", "mnist"]) == 1
    output = capsys.readouterr().out
    assert output.count("  good ") == 2
    assert f"  BAD  {IMAGES}: sha256:" in output
    assert f", expected {contents[IMAGES.removesuffix('.gz')]}" in output
    assert "not a gzip file" in output
    (folder / IMAGES).unlink()
    assert main(["data", "check"]) == 1
    assert "train-images-idx3-ubyte.gz is not in the folder" in capsys.readouterr().out


def test_check_of_the_archive_and_of_a_subset(web, capsys, monkeypatch, tmp_path):
    content = b"any"
    published = Download("cifar-100-binary.tar.gz", (), 3, "md5:" + hashlib.md5(content).hexdigest())
    monkeypatch.setitem(sources.SOURCES, "cifar100", dataclasses.replace(sources.CIFAR_100, downloads=(published,)))
    monkeypatch.setenv("MINIDL_DATA", str(tmp_path))
    write(tmp_path / "cifar100-subset", {"train.bin": b"x", "test.bin": b"y"})
    assert main(["data", "check", "cifar100"]) == 1
    output = capsys.readouterr().out
    assert "cifar100-subset, a subset, not the whole dataset" in output
    assert output.count("  BAD ") == 2
    write(tmp_path / "cifar100", {"train.bin": b"x", "test.bin": b"y"})
    assert main(["data", "check", "cifar100"]) == 0
    assert capsys.readouterr().out.count("no checksum of this file is published") == 2
    for name in ("train.bin", "test.bin"):
        (tmp_path / "cifar100" / name).unlink()
    write(tmp_path / "cifar100", {"cifar-100-binary.tar.gz": content})
    assert main(["data", "check", "cifar100"]) == 0
    assert f"  good cifar-100-binary.tar.gz: {published.checksum}" in capsys.readouterr().out

"""Files and texts that would do harm: each kind that has done so once, and thousands of drawn ones."""

from __future__ import annotations

import argparse
import gzip
import io
import json
import os
import random
import re
import signal
import struct
import subprocess
import sys
import time
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from reliability import fuzz, hostile_data, hostile_state

from minidl import data, nn, optim, studies, training
from minidl.data import augment, cifar
from minidl.studies import command, run
from minidl.training import container

from data_files import tar_gz

# ---------------------------------------------------------------- drawn ones


@pytest.mark.slow
def test_thousands_of_hostile_inputs_give_data_or_a_clear_error():
    script = [sys.executable, fuzz.__file__, "--inputs", "4000", "--seed", "1"]
    environment = {**os.environ, "PYTHONPATH": str(Path(fuzz.__file__).parents[2])}
    done = subprocess.run(script, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    _name, inputs, errors, kept, faults = re.search(
        r"^(all) +([\d,]+) +([\d,]+) +([\d,]+) +(\d+)$", done.stdout, re.M
    ).groups()
    numbers = [int(number.replace(",", "")) for number in (inputs, errors, kept, faults)]
    assert numbers[0] >= 4000
    assert numbers[1] + numbers[2] == numbers[0]
    assert numbers[3] == 0
    assert min(numbers[1:3]) > 200, "both outcomes are tried"


def _bad(what):
    """Return a reader that does on its third input what none may do, and never ends or dies with `what`."""

    def read(path):
        content = path.read_bytes()
        if content != b"2":
            raise ValueError(f"{path} is refused")
        if what == "another error":
            raise KeyError("x")
        if what == "a message without the file":
            raise ValueError("no")
        if what == "much memory":
            bytes(20_000_000)
        if what == "more memory than there may be":
            np.ones(200_000_000)
        if what == "a crash":
            os.kill(os.getpid(), signal.SIGKILL)
        if what == "no end":
            while True:
                pass
        if what == "a file":
            path.with_name("other").write_text("")
        if what == "a warning":
            np.float64(1) / np.float64(0)

    counter = iter(range(100))
    return fuzz.Format(lambda draw: ("file", str(next(counter)).encode()), read, 1)


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("another error", "KeyError: 'x'"),
        ("a message without the file", "AssertionError: the message does not name"),
        ("much memory", "Limit: took 20,"),
        ("more memory than there may be", "MemoryError"),
        ("a crash", "the process ended with -9"),
        ("no end", "computes for over 0.2 s"),
        ("a file", "files appeared in this batch: ["),
        ("a warning", "RuntimeWarning: divide by zero"),
        ("nothing", None),
    ],
)
def test_the_fuzzer_sees(monkeypatch, what, told):
    monkeypatch.setattr(fuzz, "SECONDS", 0.2)
    monkeypatch.setitem(fuzz.FORMATS, "bad", _bad(what))
    counts, faults = fuzz.fuzz(5, seed=0, processes=1, only=["bad"])
    if told is None:
        assert not faults
    else:
        (fault,) = faults
        assert fault.what.startswith(told)
        assert fault.number == 2 or what == "a file", "that is seen at the end of its batch"
    assert counts["bad"]["inputs"] == 5
    assert counts["bad"]["errors"] == 4


@pytest.mark.parametrize("name", fuzz.FORMATS)
def test_an_input_is_made_again_from_its_number(name):
    made = [fuzz.FORMATS[name].make(random.Random(f"0 {name} {n % 10}")) for n in range(20)]
    assert made[:10] == made[10:]
    assert len({str(each) for each in made[:10]}) > 5


# ---------------------------------------------------------------- archives


@pytest.mark.parametrize("size", [b"-1", b"-512", b"+1", b"1_0", b"0o7", b"\xff" * 12])
def test_a_size_that_no_archiver_writes_is_refused_before_anything_is_read(tmp_path, size):
    raw = bytearray(gzip.decompress(tar_gz({"data_batch_1.bin": b""}))[:512])
    raw[124:136] = size.ljust(12, b"\0")
    path = tmp_path / "x.tar.gz"
    path.write_bytes(gzip.compress(bytes(raw) + bytes(50_000_000)))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=re.escape(f"{path} is not a tar file: a size in it is b")):
            cifar.load(hostile_data.SMALL, {hostile_data.SMALL.archive: path})
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()


def test_names_links_and_devices_in_an_archive_have_no_meaning(tmp_path, monkeypatch):
    inside = tmp_path / "a" / "b"
    inside.mkdir(parents=True)
    monkeypatch.chdir(inside)
    path = inside / "x.tar.gz"
    draw = random.Random(0)
    for _ in range(60):
        members = [hostile_data.hostile_member(draw) for _ in range(10)]
        path.write_bytes(gzip.compress(b"".join(members) + bytes(1024), 1))
        with pytest.raises(ValueError, match="x.tar.gz"):
            cifar.load(hostile_data.SMALL, {hostile_data.SMALL.archive: path})
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "a", inside, path]


# ---------------------------------------------------------------- images


def test_whatever_pillow_raises_is_a_clear_error(tmp_path):
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((3, 3), np.uint8)).save(buffer, "png")
    good = buffer.getvalue()
    profile = b"name\0"  # an iCCP chunk that ends before its method: Pillow raises IndexError
    chunk = struct.pack(">I", len(profile)) + b"iCCP" + profile
    end = good.rindex(b"IEND") - 4
    damaged = good[:end] + chunk + struct.pack(">I", zlib.crc32(chunk[4:])) + good[end:]
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.png").write_bytes(damaged)
    with pytest.raises(ValueError, match=r"from_folder: .*x.png is damaged: index out of range"):
        data.from_folder(tmp_path, test_fraction=0.5)


# ---------------------------------------------------------------- checkpoints


def _forged(path, content):
    """Write a container whose state says `content`, with the checksum that it has."""
    arrays = {"big": np.zeros(10_000)}
    container.write(path, {"extra": arrays["big"]})
    whole = path.read_bytes()
    length = int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8 : 8 + length])
    header["extra"]["dtype"] = "F64"
    metadata = header["__metadata__"]
    metadata["state"] = json.dumps(content)
    del metadata["crc32"]
    metadata["crc32"] = container._checksum(metadata, {"extra": arrays["big"]})
    encoded = json.dumps(header).encode()
    path.write_bytes(len(encoded).to_bytes(8, "little") + encoded + whole[8 + length :])


def test_an_array_that_a_checkpoint_names_often_does_not_fill_the_memory(tmp_path):
    path = tmp_path / "run"
    _forged(path, {"extra": {"__array__": "extra"}})
    assert len(training.load_checkpoint(path)) == 10_000
    _forged(path, {"extra": [{"__array__": "extra"}] * 2})
    with pytest.raises(ValueError, match="is not a whole checkpoint of minidl: 'extra'"):
        training.load_checkpoint(path)


@pytest.mark.parametrize(
    ("kind", "entry", "place"),
    [("MT19937", "pos", -1), ("MT19937", "pos", 625), ("Philox", "buffer_pos", -1), ("Philox", "buffer_pos", 5)],
)
def test_a_generator_does_not_read_beyond_its_buffer(tmp_path, kind, entry, place):
    """NumPy before 2.5 takes such a place, and draws what lies in memory before or behind the buffer."""
    generator = np.random.Generator(getattr(np.random, kind)(1))
    model = nn.Sequential(nn.Dense(2, 2), nn.Dropout(0.5, generator=generator))
    optimizer = optim.SGD(model)
    path = tmp_path / "run"
    training.save_checkpoint(path, model=model, optimizer=optimizer)
    content = container.read(path)
    state = content["generators"]["1.generator"]
    (state["state"] if entry == "pos" else state)[entry] = place
    container.write(path, content)
    before = repr(generator.bit_generator.state)
    refused = rf"{entry}( of 1.generator is {place}, expected an integer from 0 to (624|4)|(ition)? must be between)"
    with pytest.raises(ValueError, match=refused):
        training.load_checkpoint(path, model=model, optimizer=optimizer)
    assert repr(generator.bit_generator.state) == before


# ---------------------------------------------------------------- histories and records

LINE = '{"kind": "step", "loss": 0.5}\n'
END = '{"kind": "end", "stopped": ""}\n'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (LINE + "[" * 100_000, "line 2 of .*h.jsonl is not a record of a run: maximum recursion"),
        (LINE + "\udcff\n", "line 2 of .*h.jsonl is not a record of a run: 'utf-8'"),
        (LINE + LINE, "h.jsonl is cut off: its last line does not say how the run ended"),
        ("", "h.jsonl is cut off"),
        (LINE + END + LINE, "line 3 of .*h.jsonl is not a record of a run: there is more after the end"),
        (LINE.replace("0.5", "NaN") + END, "line 1 of .*: a value is NaN, expected finite numbers"),
        (LINE.replace("0.5", "1e999") + END, "line 1 of .*: a value is 1e999, expected finite numbers"),
        (END.replace('""', "3"), "line 1 of .*: stopped is 3, expected a text"),
    ],
)
def test_a_history_that_is_none_is_refused(tmp_path, content, message):
    path = tmp_path / "h.jsonl"
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(ValueError, match=f"History.load: .*{message}"):
        training.History.load(path)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("epochs.0.validation_accuracy", 10**400, "too large to convert"),
        ("epochs.0.validation_accuracy", float("nan"), "a value is NaN, expected finite numbers"),
        ("run.seed", "/../../../tmp/x", "run: seed is '/../../../tmp/x', expected a non-negative integer"),
        ("run.seed", -1, "run: seed is -1"),
        ("run.dataset", 3, "run: dataset is 3, expected a name"),
        ("run.fraction", "1", "run: fraction is '1', expected a number from 0 to 1"),
        ("run.fraction", float("nan"), "a value is NaN"),
        ("run.held_out", 1, "run: held_out is 1"),
        ("run.recipe.name", 3, "recipe 3: name is 3, expected a text"),
        ("run.recipe.rate", "{rate:>9999999999}", "has more than names in its braces"),
        ("run.recipe.rate", "{rate!r}", "has more than names in its braces"),
        ("run.recipe.rate", "{rate.__class__}", "there is no value for rate.__class__"),
    ],
)
def test_a_record_with_what_no_run_has_is_refused(tmp_path, place, value, message):
    record = {
        "format": run.FORMAT,
        "run": run.Run(hostile_state._recipe(), "digits").as_dict(),
        "epochs": [{"validation_accuracy": 0.5}],
    }
    path = tmp_path / "run.json"
    path.write_text(json.dumps(record))
    run.read_record(path)
    *outer, last = place.split(".")
    inside = record
    for key in outer:
        inside = inside[int(key) if key.isdigit() else key]
    assert last in inside
    inside[last] = value
    path.write_text(json.dumps(record))
    start = time.perf_counter()
    with pytest.raises(ValueError, match=f"{re.escape(str(path))} is no record of a run: .*{re.escape(message)}"):
        run.read_record(path)
    assert time.perf_counter() - start < 2


# ---------------------------------------------------------------- texts


@pytest.mark.parametrize(
    "text", ["rotate(0x" + "f" * 5000 + ")", "rotate(" + "9" * 400 + ")", "crop(1e300 * 1e300 * 'a')"]
)
def test_a_number_beyond_all_others_is_named(text):
    with pytest.raises(ValueError, match="augment: (the settings of|'rotate)") as caught:
        augment.parse(text)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("text", ["-" * 100_000 + "1", "1" + "+1" * 5000, "{[]: 1}", "0x" + "f" * 5000, "9" * 5000])
def test_a_value_of_a_grid_that_is_no_number_is_a_text(text):
    options = argparse.Namespace(quick=False, full=False, fraction=None, grid=[f"rate={text}"], only=[])
    assert command.chosen(command.STUDIES["smoothing"], options).grid == {"rate": (text,)}


def test_a_fraction_with_a_huge_exponent_is_refused_at_once():
    options = argparse.Namespace(quick=False, full=False, fraction=["1e999999999"], grid=[], only=[])
    with pytest.raises(ValueError, match="fractions is .inf,., expected numbers above 0"):
        command.chosen(command.STUDIES["smoothing"], options)


def test_a_study_is_still_made_from_its_words():
    assert studies.Recipe("a", "mlp(8)", "SGD", rate="Cosine({rate}, {epochs})", values={"rate": 0.1}).text("rate") == (
        "Cosine(0.1, 10)"
    )

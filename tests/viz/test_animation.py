"""The film of a race: that it can be played, what it shows, and that a failure leaves nothing behind."""

from __future__ import annotations

import json
import shutil
import subprocess

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image, ImageSequence

from minidl import surfaces, viz
from minidl.viz.animation import Film, _schedule
from minidl.viz.surface import best_runs

needs_ffmpeg = pytest.mark.skipif(
    not (shutil.which("ffmpeg") and shutil.which("ffprobe")), reason="ffmpeg is not installed"
)


@pytest.fixture(scope="module")
def sweep():
    """SGD diverges at step 4, long before the end."""
    return surfaces.sweep(surfaces.quadratic(100), "sgd,adam", steps=20, rates=(0.5,), momenta=(0.9,))


@pytest.fixture
def no_ffmpeg(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)


def fake_ffmpeg(monkeypatch, folder, script):
    program = folder / "ffmpeg"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda name: str(program))


def near(image, color, tolerance=40):
    """Return where an image has about this color."""
    return np.abs(image[..., :3].astype(int) - 255 * np.array(to_rgb(color))).max(axis=-1) < tolerance


# ---------------------------------------------------------------- the schedule


@pytest.mark.parametrize(
    ("steps", "frames", "fps"), [(200, 200, 20), (20, 100, 10), (1000, 50, 20), (1, 2, 20), (5, 3, 1)]
)
def test_the_steps_are_spread_evenly_from_the_first_to_the_last(steps, frames, fps):
    schedule = _schedule(steps, frames, fps)
    assert len(schedule) == frames
    assert (schedule[0], schedule[-1]) == (0, steps)
    gaps = np.diff(schedule[: schedule.index(steps) + 1])
    assert (gaps >= 0).all()
    assert gaps.max() - gaps.min() <= 1


def test_the_end_is_held_for_a_second():
    assert _schedule(200, 200, 20)[-21:] == [200] * 21
    assert _schedule(200, 200, 20)[-22] < 200


# ---------------------------------------------------------------- the frames


def test_frames_are_even_in_size_and_each_shows_its_step(sweep):
    film = Film(sweep)
    images = list(film.frames([0, 3, 3, 20]))
    width, height = film.size
    assert (width % 2, height % 2) == (0, 0)
    assert {image.shape for image in images} == {(height, width, 4)}
    np.testing.assert_array_equal(images[1], images[2])
    assert (images[0] != images[1]).any()
    assert (images[1] != images[3]).any()


def test_skipping_steps_changes_nothing_but_the_way_there(sweep):
    film = Film(sweep)
    *_, slow = film.frames(range(21))
    *_, fast = film.frames([20])
    assert (np.abs(slow.astype(int) - fast).max(axis=-1) > 60).mean() < 1e-3  # joints of the trails


def test_a_trail_follows_its_run_and_the_head_is_where_the_run_is(sweep):
    film = Film(sweep)
    adam = next(run for run in best_runs(sweep) if run.name == "Adam")
    first, last = film.frames([0, 20])
    x, y = film._map.transData.transform(adam.path).T
    inside = film._ground.holds(adam.path)
    for at in np.flatnonzero(inside)[[-1, -3]]:
        spot = np.s_[int(film.size[1] - y[at]) - 6 : int(film.size[1] - y[at]) + 6, int(x[at]) - 6 : int(x[at]) + 6]
        assert near(last[spot], adam.color).any()
        assert not near(first[spot], adam.color).any()


def test_a_diverged_run_is_named_from_its_step_on(sweep):
    sgd = best_runs(sweep)[-1]
    assert (sgd.name, sgd.stopped) == ("SGD", 4)
    film = Film(sweep)
    for _ in range(2):  # and again from the start
        before, after = film.frames([3, 4])
        column, line = film._pixel(4.35, 0.31 * (1 + 2.1))
        words = np.s_[line - 12 : line + 3, column - 110 : column]
        ink = [near(image[words], viz.INK, 120).sum() for image in (before, after)]
        assert ink[1] > 2 * ink[0] > 0  # "diverged at step 4" has more ink than a number


def test_a_run_outside_is_shown_where_it_left_the_picture(sweep):
    sgd = best_runs(sweep)[-1]
    film = Film(sweep)
    floor = film._ground.box[1][0]
    (x0, y0), (x1, y1) = sgd.path[:2]
    assert y1 < floor < y0
    x, y = film._map.transData.transform((x0 + (x1 - x0) * (floor - y0) / (y1 - y0), floor))
    below = np.s_[
        int(film.size[1] - y) + 2 : int(film.size[1] - y) + 9, int(x) - 8 : int(x) + 8
    ]  # outside of the frame
    before, after = film.frames([0, 1])
    assert near(after[below], sgd.color).sum() > 10
    assert not near(before[below], sgd.color).any()


# ---------------------------------------------------------------- mp4


@needs_ffmpeg
def test_the_mp4_can_be_decoded_and_has_every_frame(sweep, tmp_path):
    path = viz.race_animation(sweep, tmp_path / "race-0.1", seconds=3, fps=8)
    assert path == tmp_path / "race-0.1.mp4"
    asked = "stream=codec_name,pix_fmt,width,height,nb_read_frames,avg_frame_rate"
    command = ["ffprobe", "-v", "error", "-count_frames", "-show_entries", asked, "-of", "json", str(path)]
    (stream,) = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)["streams"]
    assert (stream["width"], stream["height"]) == Film(sweep).size
    assert stream["codec_name"] == "h264"
    assert stream["pix_fmt"] == "yuv420p"
    assert (stream["nb_read_frames"], stream["avg_frame_rate"]) == ("24", "8/1")
    assert list(tmp_path.iterdir()) == [path]


@needs_ffmpeg
def test_the_mp4_shows_the_frames(sweep, tmp_path):
    path = viz.race_animation(sweep, tmp_path / "race", seconds=2, fps=4)
    command = ["ffmpeg", "-v", "error", "-i", str(path), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    film = Film(sweep)
    width, height = film.size
    raw = subprocess.run(command, check=True, capture_output=True).stdout
    shown = np.frombuffer(raw, np.uint8).reshape(-1, height, width, 3)
    drawn = list(film.frames(_schedule(20, 8, 4)))
    assert len(shown) == len(drawn)
    for decoded, image in zip(shown, drawn, strict=True):
        assert np.abs(decoded.astype(int) - image[..., :3]).mean() < 4
    assert np.abs(shown[0].astype(int) - shown[-1]).mean() > 1


def test_a_failing_ffmpeg_says_why_and_leaves_nothing_behind(sweep, tmp_path, monkeypatch):
    fake_ffmpeg(monkeypatch, tmp_path, "echo 'Unknown encoder libx264' >&2; exit 7")
    out = tmp_path / "out"
    with pytest.raises(RuntimeError, match="ffmpeg failed with status 7: Unknown encoder libx264"):
        viz.race_animation(sweep, out / "race", seconds=1, fps=4)
    assert list(out.iterdir()) == []


def test_an_ffmpeg_that_fails_at_the_end_leaves_nothing_behind(sweep, tmp_path, monkeypatch):
    fake_ffmpeg(monkeypatch, tmp_path, 'for file; do :; done; echo half > "${file#file:}"; cat > /dev/null; exit 1')
    out = tmp_path / "out"
    out.mkdir()
    (out / "race.mp4").write_text("an older film")
    with pytest.raises(RuntimeError, match="ffmpeg failed with status 1"):
        viz.race_animation(sweep, out / "race", seconds=1, fps=4)
    assert [path.read_text() for path in out.iterdir()] == ["an older film"]


def test_an_interruption_ends_ffmpeg_and_leaves_nothing_behind(sweep, tmp_path, monkeypatch):
    fake_ffmpeg(monkeypatch, tmp_path, "exec sleep 60")
    started = []
    popen = subprocess.Popen
    monkeypatch.setattr(
        subprocess, "Popen", lambda *args, **kwargs: started.append(popen(*args, **kwargs)) or started[0]
    )

    def interrupted(film, steps):
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr(Film, "frames", interrupted)
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        viz.race_animation(sweep, out / "race")
    assert list(out.iterdir()) == []
    assert started[0].poll() is not None  # it has ended and is no zombie


# ---------------------------------------------------------------- GIF


@pytest.mark.usefixtures("no_ffmpeg")
def test_without_ffmpeg_a_gif_is_written_that_shows_every_frame(sweep, tmp_path):
    path = viz.race_animation(sweep, tmp_path / "race", seconds=2, fps=10)
    assert path == tmp_path / "race.gif"
    steps = sorted(set(_schedule(20, 20, 10)))
    with Image.open(path) as gif:
        assert gif.size == Film(sweep).size
        frames = [(frame.info["duration"], np.array(frame.convert("RGB"))) for frame in ImageSequence.Iterator(gif)]
    assert len(frames) == len(steps)
    assert sum(duration for duration, _ in frames) == 2000
    assert frames[-1][0] == 700  # the end is held
    for (_, shown), drawn in zip(frames, Film(sweep).frames(steps), strict=True):
        assert np.abs(shown.astype(int) - drawn[..., :3]).mean() < 2
    assert all((frames[i][1] != frames[i + 1][1]).any() for i in range(len(frames) - 1))


@pytest.mark.usefixtures("no_ffmpeg")
def test_the_gif_keeps_white_and_the_colors_of_the_methods(sweep, tmp_path):
    with Image.open(viz.race_animation(sweep, tmp_path / "race", seconds=1, fps=4)) as gif:
        image = np.array(gif.convert("RGB"))
    assert (image[2, 2] == 255).all()
    for run in best_runs(sweep):
        assert near(image, run.color, 2).any(), run.name


# ---------------------------------------------------------------- arguments


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fps": 0}, "fps is 0, expected a positive integer"),
        ({"fps": 101}, "fps is 101"),
        ({"fps": 2.5}, "fps is 2.5"),
        ({"seconds": -1}, "seconds is -1"),
        ({"seconds": float("nan")}, "seconds is nan"),
        ({"seconds": 0.05}, "seconds is 0.05 at 20 frames a second, expected two frames or more"),
    ],
)
def test_bad_arguments_are_named_before_anything_is_written(sweep, tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        viz.race_animation(sweep, tmp_path / "race", **settings)
    assert list(tmp_path.iterdir()) == []


def test_the_film_refuses_what_is_no_sweep(tmp_path):
    with pytest.raises(TypeError, match="sweep is of type str, expected a Sweep"):
        viz.race_animation("rosenbrock", tmp_path / "race")

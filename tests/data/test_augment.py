"""Changes of images: what holds for all of them, and what each of them does."""

from __future__ import annotations

import contextlib
import dataclasses
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from minidl import data
from minidl.data import SampleGenerator, augment
from minidl.data.augment import sampling, weather

IMAGES = np.random.default_rng(0).random((6, 3, 4, 3), dtype=np.float32)
SPECIAL = {"affine": {"degrees": 20.0, "scale": 0.3, "shift": 0.2, "shear": 20.0}}
CHANGES = {name: change(**SPECIAL.get(name, {})) for name, change in augment.CHANGES.items()}
CHANGES |= {
    f"{name}, {border}": augment.CHANGES[name](border=border)
    for name in ("rotate", "scale", "shift", "crop", "crop_flip")
    for border in ("nearest", "reflect")
}
CHANGES |= {
    "vertical flip": augment.flip(direction="vertical"),
    "erase black": augment.erase(1, fill="black"),
    "erase mean": augment.erase(1, fill="mean"),
    "backgrounds": augment.background(images=(255 * IMAGES[:1]).astype(np.uint8).repeat(9, 1)[:, :8, :1].repeat(8, 2)),
    "composed": augment.compose(augment.crop(2), augment.noise(), augment.rotate()),
    "sometimes": augment.sometimes(augment.brightness(), 0.5),
}
FIXED = {"backgrounds"}  # made for images of one size
BLENDS = {name: blend(4) for name, blend in augment.BLENDS.items()}


@st.composite
def images(draw, sizes=st.integers(1, 17)):
    count, height, width = draw(st.integers(0, 5)), draw(sizes), draw(sizes)
    x = np.random.default_rng(draw(st.integers(0, 99))).random((count, height, width, draw(st.sampled_from([1, 3, 4]))))
    x = x.astype(draw(st.sampled_from([np.float16, np.float32, np.float64, np.longdouble])))
    return np.round(x) if draw(st.booleans()) else x


def pictures(count=8, height=8, width=8, channels=3):
    return np.random.default_rng(1).random((count, height, width, channels), dtype=np.float32)


# ---------------------------------------------------------------- all of them


@pytest.mark.parametrize("name", sorted(CHANGES.keys() - FIXED))
@given(x=images(), numpys=st.booleans(), seed=st.integers(0, 99))
def test_shape_dtype_and_range_stay_and_so_does_what_was_given(name, x, numpys, seed):
    generator = np.random.default_rng(seed) if numpys else SampleGenerator(seed, 0, range(len(x)))
    before = x.copy()
    made = CHANGES[name](x, generator)
    assert (made.shape, made.dtype) == (x.shape, x.dtype)
    assert not np.shares_memory(made, x) or made.size == 0
    assert made.size == 0 or 0 <= made.min() <= made.max() <= 1
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("name", sorted(CHANGES.keys() - FIXED))
@given(x=images())
def test_at_strength_0_nothing_changes(name, x):
    np.testing.assert_array_equal(CHANGES[name].times(0)(x, SampleGenerator(0, 0, range(len(x)))), x)


@pytest.mark.parametrize("name", sorted(CHANGES))
def test_every_image_is_changed_in_a_way_of_its_own(name):
    x = np.repeat(pictures(1), 40, axis=0)
    x[:, 0] = x[:, -1] = x[:, :, 0] = x[:, :, -1] = 0.5  # a border, for a new background
    made = CHANGES[name](x, SampleGenerator(0, 0, range(40)))
    least = 2 if "flip" in name and "crop" not in name else 1 if name == "backgrounds" else 5
    assert len({image.tobytes() for image in made}) >= least
    assert (made != x).any()


@pytest.mark.parametrize("name", sorted(CHANGES))
def test_an_image_does_not_depend_on_its_batch(name):
    x = pictures(40)
    whole = CHANGES[name](x, SampleGenerator(3, 1, range(40)))
    for rows in (np.array([17]), np.array([39, 4, 22, 0]), np.arange(40)[::-1]):
        part = CHANGES[name](np.ascontiguousarray(x[rows]), SampleGenerator(3, 1, rows))
        assert part.tobytes() == np.ascontiguousarray(whole[rows]).tobytes()


@pytest.mark.parametrize("name", sorted(CHANGES))
def test_seed_and_epoch_decide(name):
    x = pictures(30)
    made = [CHANGES[name](x, SampleGenerator(*key, range(30))).tobytes() for key in ((0, 0), (0, 0), (0, 1), (1, 0))]
    assert made[0] == made[1]
    assert len(set(made)) == (1 if name == "backgrounds" else 3)


@pytest.mark.parametrize("name", sorted(CHANGES))
def test_a_view_that_is_not_contiguous_will_do(name):
    x = pictures(6)
    view = np.asfortranarray(x)
    expected = CHANGES[name](x, SampleGenerator(0, 0, range(6)))
    np.testing.assert_allclose(CHANGES[name](view, SampleGenerator(0, 0, range(6))), expected, atol=1e-6)


@pytest.mark.parametrize("name", sorted(augment.CHANGES))
def test_a_loader_keeps_the_labels_and_makes_the_same_images_in_every_batch_size(name):
    pixels = (255 * pictures(12)).astype(np.uint8)

    def made(batch_size, shuffle):
        loader = data.Loader(pixels, np.arange(12), batch_size, shuffle, seed=2, augment=CHANGES[name])
        return {int(label): image.tobytes() for x, y in loader for image, label in zip(x, y, strict=True)}

    assert made(12, False) == made(5, True) == made(1, False)


@pytest.mark.parametrize("name", sorted(CHANGES))
@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (np.zeros((2, 3, 3)), ValueError, r"x has shape \(2, 3, 3\), expected images \(B, H, W, C\)"),
        (np.zeros((2, 3, 3, 1), np.uint8), TypeError, "x has dtype uint8, expected floating-point numbers"),
        (3, ValueError, r"x has shape \(\)"),
    ],
)
def test_what_is_no_image_is_a_clear_error(name, x, error, message):
    with pytest.raises(error, match=message):
        CHANGES[name](x, np.random.default_rng(0))


@pytest.mark.parametrize("name", sorted(augment.CHANGES))
def test_bad_settings_are_clear_errors(name):
    change = augment.CHANGES[name]
    for setting in change.strengths:
        for value, error in (
            (-1, ValueError),
            ("a lot", TypeError),
            (np.nan, (ValueError, TypeError)),
            (None, TypeError),
        ):
            with pytest.raises(error, match=f"{name}: {setting} is|crop: {setting} is"):
                change(**{setting: value})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: augment.rotate(border="wrap"), "rotate: border is 'wrap', expected one of 'constant'"),
        (lambda: augment.crop(border="wrap"), "crop: border is 'wrap'"),
        (lambda: augment.elastic(border="wrap"), "elastic: border is 'wrap'"),
        (lambda: augment.elastic(sigma=0), "elastic: sigma is 0, expected a number in"),
        (lambda: augment.flip(direction="diagonal"), "flip: direction is 'diagonal'"),
        (lambda: augment.flip(1.5), r"flip: p is 1.5, expected a number in \[0, 1\]"),
        (lambda: augment.rotate(181), "rotate: degrees is 181"),
        (lambda: augment.crop(size=0), "crop: size is 0"),
        (lambda: augment.crop(size=(3, 0)), "crop: size is 0"),
        (lambda: augment.crop(size=(3,)), r"crop: size is \(3,\), expected an integer or a pair \(height, width\)"),
        (lambda: augment.crop(size=(1, 2, 3)), r"crop: size is \(1, 2, 3\), expected an integer or a pair"),
        (lambda: augment.crop(size=()), r"crop: size is \(\), expected an integer or a pair"),
        (lambda: augment.crop_flip(size=(3,)), r"crop_flip: size is \(3,\), expected an integer or a pair"),
        (lambda: augment.scale(1e300, "reflect"), r"scale: strength is 1e\+300, expected a number in \[0, 1000\]"),
        (lambda: augment.affine(scale=1e300), r"affine: scale is 1e\+300, expected a number in \[0, 1000\]"),
        (lambda: augment.elastic(1e300), r"elastic: alpha is 1e\+300, expected a number in \[0, 1000\]"),
        (lambda: augment.elastic(1, 1e6), r"elastic: sigma is 1000000.0, expected a number in \[0.1, 100\]"),
        (lambda: augment.blur(1e5), r"blur: sigma is 100000.0, expected a number in \[0, 100\]"),
        (lambda: augment.contrast(1e300), r"contrast: strength is 1e\+300, expected a number in \[0, 1000\]"),
        (lambda: augment.erase(fill="white"), "erase: fill is 'white'"),
        (lambda: augment.erase(area=(0.5, 0.1)), "erase: area is .* expected rising numbers"),
        (lambda: augment.erase(area=(0.5, 1.1)), "erase: area is 1.1"),
        (lambda: augment.background(images=np.zeros((3, 3))), r"background: images has shape \(3, 3\)"),
        (lambda: augment.background(images=[]), r"background: images has shape \(0,\)"),
        (lambda: augment.background(images=[[1.0], [1.0, 0.0]]), "background: images are of different shapes"),
        (
            lambda: augment.background(images=np.full((1, 2, 2, 1), 255.0)),
            "background: images is from 0 to 255, expected",
        ),
        (lambda: augment.background(images=np.full((1, 2, 2, 1), np.nan)), "background: images is from nan to nan"),
        (lambda: augment.rain(slant=80), "rain: slant is 80"),
        (lambda: augment.mixup(0), "mixup: classes is 0"),
        (lambda: augment.cutmix(2, -1.0), "cutmix: alpha is -1.0"),
        (lambda: augment.sometimes(augment.flip(), 2), "sometimes: p is 2"),
    ],
)
def test_other_bad_settings_too(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("name", ["scale, reflect", "scale, nearest", "elastic", "contrast", "affine"])
def test_the_largest_settings_give_numbers(name):
    change = CHANGES[name]
    most = {
        "affine": {"degrees": 180, "scale": 1000, "shift": 1, "shear": 89},
        "elastic": {"alpha": 1000, "sigma": 100},
    }
    change = dataclasses.replace(change, **most.get(name, {"strength": 1000}))
    for dtype in (np.float16, np.float32):
        made = change(pictures().astype(dtype), SampleGenerator(0, 0, range(8)))
        assert 0 <= made.min() <= made.max() <= 1


def test_standardized_images_are_clipped_by_what_comes_after():
    """This is why it comes last, as `compose` says."""
    x = pictures()
    standardize = data.Standardization(x)
    for change in (augment.brightness(0.0), augment.noise(0.0), augment.blur(0.0)):
        last = augment.compose(change, standardize)(x, SampleGenerator(0, 0, range(8)))
        assert last.min() < -1
        assert augment.compose(standardize, change)(x, SampleGenerator(0, 0, range(8))).min() == 0


# ---------------------------------------------------------------- geometry


@pytest.mark.parametrize("name", ["rotate", "affine", "elastic", "shift, reflect", "scale, nearest"])
def test_geometry_keeps_the_precision_of_the_images(name):
    x = pictures()
    expected = CHANGES[name](x, SampleGenerator(0, 0, range(8)))
    for dtype, error in ((np.float16, 1e-3), (np.longdouble, 1e-6), (">f4", 1e-6)):
        made = CHANGES[name](x.astype(dtype), SampleGenerator(0, 0, range(8)))
        assert made.dtype == dtype
        np.testing.assert_allclose(made.astype(np.float32), expected, atol=error)


@pytest.mark.parametrize("border", sampling.BORDERS)
@given(seed=st.integers(0, 99), size=st.tuples(st.integers(1, 9), st.integers(1, 9)))
def test_resampling_is_scipys_for_every_image(border, seed, size):
    rng = np.random.default_rng(seed)
    x = rng.random((5, *size, 2))
    rows, columns = (rng.uniform(-1.2 * n, 2.2 * n, (5, 4, 6)).astype(np.float32) for n in size)
    made = sampling.resampled(x, rows, columns, border)
    mode = {"constant": "grid-constant"}.get(border, border)
    for i in range(5):
        for channel in range(2):
            places = [rows[i].astype(float), columns[i].astype(float)]
            expected = ndimage.map_coordinates(x[i, ..., channel], places, order=1, mode=mode)
            np.testing.assert_allclose(made[i, ..., channel], expected, atol=5e-6)


@pytest.mark.parametrize("border", sampling.BORDERS)
@given(seed=st.integers(0, 99), size=st.tuples(st.integers(1, 9), st.integers(1, 9)))
def test_gathering_is_padding_and_cutting(border, seed, size):
    rng = np.random.default_rng(seed)
    x = rng.random((5, *size, 2))
    rows, columns = (rng.integers(-4, n + 4, (5, 7)) for n in size)
    mode = {"constant": {"mode": "constant"}, "nearest": {"mode": "edge"}, "reflect": {"mode": "symmetric"}}[border]
    padded = np.pad(x, ((0, 0), (4, 4), (4, 4), (0, 0)), **mode)
    expected = padded[np.arange(5)[:, None, None], rows[:, :, None] + 4, columns[:, None, :] + 4]
    np.testing.assert_array_equal(sampling.gathered(x, rows, columns, border), expected)


class Always:
    """A generator whose uniform numbers are always at one end."""

    def __init__(self, value):
        self.value = value

    def random(self, size):
        return np.full(size, self.value)

    def uniform(self, low, high, size):
        return np.asarray(low) + np.subtract(high, low) * self.random(size)


def test_angles_factors_and_shifts_are_what_they_say():
    x = pictures(3, 7, 7)
    np.testing.assert_allclose(augment.rotate(90)(x, Always(1.0)), np.rot90(x, 1, axes=(1, 2)), atol=1e-5)
    np.testing.assert_allclose(augment.rotate(180)(x, Always(0.0)), x[:, ::-1, ::-1], atol=1e-5)
    np.testing.assert_allclose(augment.shift(2 / 7)(x, Always(1.0))[:, 2:, 2:], x[:, :-2, :-2], atol=1e-5)
    assert not augment.shift(2 / 7)(x, Always(1.0))[:, :2].any()
    twice = augment.scale(1)(x, Always(1.0))
    np.testing.assert_allclose(twice[:, 1::2, 1::2], x[:, 2:5, 2:5], atol=1e-5)
    half = augment.scale(1)(x, Always(0.0))
    np.testing.assert_allclose(half[:, 2:5, 2:5], x[:, 1:6:2, 1:6:2], atol=1e-5)
    sheared = augment.affine(shear=45)(x, Always(1.0))
    np.testing.assert_allclose(sheared[:, 3], x[:, 3], atol=1e-5)
    np.testing.assert_allclose(sheared[:, 2, 1:], x[:, 2, :-1], atol=1e-5)
    np.testing.assert_allclose(sheared[:, 4, :-1], x[:, 4, 1:], atol=1e-5)


def test_a_rotation_and_its_opposite_cancel_where_the_image_is_smooth():
    u, v = np.meshgrid(*2 * [np.linspace(-1, 1, 33)])
    x = (0.5 + 0.3 * np.sin(2 * u + v) + 0.1 * u)[None, ..., None]
    there_and_back = augment.rotate(30)(augment.rotate(30)(x, Always(1.0)), Always(0.0))
    inside = u**2 + v**2 < 0.7
    np.testing.assert_allclose(there_and_back[0, ..., 0][inside], x[0, ..., 0][inside], atol=0.01)


def test_a_flip_is_its_own_inverse():
    x = pictures()
    for direction, expected in (("horizontal", x[:, :, ::-1]), ("vertical", x[:, ::-1])):
        flip = augment.flip(1, direction)
        made = flip(x, np.random.default_rng(0))
        np.testing.assert_array_equal(made, expected)
        np.testing.assert_array_equal(flip(made, np.random.default_rng(0)), x)


def test_flips_do_not_read_the_mirror_image_of_every_image(monkeypatch):
    """Copied line by line backwards, all of them took longer than whole crops do."""
    monkeypatch.setattr(np, "where", None)
    x = pictures(60)
    for p in (0, 0.5, 1):
        chosen = SampleGenerator(0, 0, range(60)).random(60) < p
        made = augment.flip(p)(x, SampleGenerator(0, 0, range(60)))
        np.testing.assert_array_equal(made[chosen], x[chosen, :, ::-1])
        np.testing.assert_array_equal(made[~chosen], x[~chosen])


def test_crops_are_all_windows_and_have_the_size_that_was_asked_for():
    x = np.arange(1, 17, dtype=np.float32).reshape(1, 4, 4, 1).repeat(400, axis=0) / 16
    for change in (augment.crop(1), augment.crop_flip(1, p=0)):
        found = {image.tobytes() for image in change(x, SampleGenerator(0, 0, range(400)))}
        padded = np.pad(x[0], ((1, 1), (1, 1), (0, 0)))
        assert found == {
            np.ascontiguousarray(padded[i : i + 4, j : j + 4]).tobytes() for i in range(3) for j in range(3)
        }
    mirrored = augment.crop_flip(0, p=1)(x, SampleGenerator(0, 0, range(400)))
    np.testing.assert_array_equal(mirrored, x[:, :, ::-1])
    assert augment.crop(0, size=(2, 3))(x, np.random.default_rng(0)).shape == (400, 2, 3, 1)
    assert augment.crop_flip(4, size=6)(x, np.random.default_rng(0)).shape == (400, 6, 6, 1)
    with pytest.raises(
        ValueError, match=r"crop: size is 9, expected at most the images' \(4, 4\) and twice the padding"
    ):
        augment.crop(2, size=9)(x, np.random.default_rng(0))


def test_elastic_moves_have_the_deviation_alpha(monkeypatch):
    moves = []
    monkeypatch.setattr(
        "minidl.data.augment.geometry.resampled", lambda x, rows, columns, border: moves.append(rows) or x
    )
    augment.elastic(alpha=2, sigma=3)(pictures(200, 24, 24, 1), SampleGenerator(0, 0, range(200)))
    assert (moves[0] - np.arange(24)[:, None]).std() == pytest.approx(2, rel=0.05)


# ---------------------------------------------------------------- intensity


def test_brightness_contrast_and_noise_are_their_equations():
    x = 0.4 + 0.2 * pictures(4)
    np.testing.assert_allclose(augment.brightness(0.1)(x, Always(1.0)), x + 0.1, atol=1e-6)
    np.testing.assert_allclose(augment.brightness(0.1)(x, Always(0.0)), x - 0.1, atol=1e-6)
    mean = x.mean(axis=(1, 2, 3), keepdims=True)
    np.testing.assert_allclose(augment.contrast(1)(x, Always(1.0)), mean + 2 * (x - mean), atol=1e-6)
    np.testing.assert_allclose(augment.contrast(1)(x, Always(0.0)), mean + (x - mean) / 2, atol=1e-6)
    grey = np.full((500, 8, 8, 1), 0.5, np.float32)
    deviations = augment.noise(0.1)(grey, SampleGenerator(0, 0, range(500))).std(axis=(1, 2, 3))
    assert deviations.mean() == pytest.approx(0.05, rel=0.1)
    assert 0.08 < deviations.max() < 0.13


@given(seed=st.integers(0, 99), size=st.integers(1, 12))
def test_blur_is_scipys_for_every_image(seed, size):
    x = np.random.default_rng(seed).random((11, size, 2 * size, 2))
    made = augment.blur(2.0)(x, SampleGenerator(seed, 0, range(11)))
    sigmas = 2 * SampleGenerator(seed, 0, range(11)).random(11)
    for image, sigma, blurred in zip(x, sigmas, made, strict=True):
        np.testing.assert_allclose(blurred, ndimage.gaussian_filter(image, sigma, axes=(0, 1)), atol=1e-12)


def test_channels_come_in_all_orders():
    x = np.broadcast_to(np.array([0.1, 0.5, 0.9], np.float32), (600, 2, 2, 3))
    made = augment.shuffle_channels(1)(x, SampleGenerator(0, 0, range(600)))
    orders, counts = np.unique(made[:, 0, 0], axis=0, return_counts=True)
    assert len(orders) == 6
    assert counts.min() > 60
    assert (made == made[:, :1, :1]).all()


# ---------------------------------------------------------------- what hides


@pytest.mark.parametrize("fill", ["black", "noise", "mean"])
def test_a_rectangle_of_the_area_is_erased(fill):
    x = 0.2 + 0.5 * pictures(300, 20, 30)
    made = augment.erase(1, (0.1, 0.3), (0.5, 2), fill)(x, SampleGenerator(0, 0, range(300)))
    changed = (made != x).any(axis=3)
    for image, old, flags in zip(made, x, changed, strict=True):
        rows, columns = np.flatnonzero(flags.any(axis=1)), np.flatnonzero(flags.any(axis=0))
        box = flags[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert box.mean() > 0.95, "one rectangle, all of it"
        assert 0.07 <= box.size / flags.size <= 0.34
        assert 0.4 <= box.shape[0] / box.shape[1] <= 2.5
        if fill != "noise":
            np.testing.assert_allclose(
                image[flags], np.broadcast_to(old.mean(axis=(0, 1)) * (fill == "mean"), (flags.sum(), 3)), atol=1e-5
            )
    half = augment.erase(0.5)(x, SampleGenerator(0, 0, range(300)))
    assert 110 < (half != x).any(axis=(1, 2, 3)).sum() < 190


def test_the_background_changes_and_the_object_stays():
    x = np.full((10, 12, 12, 3), 0.3, np.float32)
    x[:, 4:8, 4:8] = [0.9, 0.1, 0.5]
    made = augment.background()(x, SampleGenerator(0, 0, range(10)))
    np.testing.assert_array_equal(made[:, 4:8, 4:8], x[:, 4:8, 4:8])
    assert abs(made - x)[:, 0].max(axis=(1, 2)).min() > 0.05
    given = (255 * pictures(3, 12, 12)).astype(np.uint8)
    made = augment.background(images=given)(x, SampleGenerator(0, 0, range(10)))
    matches = [(abs(made[:, :4] - image[:4] / 255).max(axis=(1, 2, 3)) < 1e-6) for image in given]
    np.testing.assert_array_equal(np.sum(matches, axis=0), 1)
    np.testing.assert_array_equal(made[:, 4:8, 4:8], x[:, 4:8, 4:8])
    with pytest.raises(ValueError, match=r"background: images has shape \(3, 12, 12, 3\), expected \(8, 8, 3\)"):
        augment.background(images=given)(pictures(), np.random.default_rng(0))


def test_backgrounds_may_be_lists_but_not_integers():
    x, floats = pictures(5), pictures(2, 8, 8).astype(float)
    made = augment.background(images=floats.tolist())(x, SampleGenerator(0, 0, range(5)))
    expected = augment.background(images=floats)(x, SampleGenerator(0, 0, range(5)))
    np.testing.assert_array_equal(made, expected)
    for integers in (np.ones((1, 8, 8, 3), int), np.ones((1, 8, 8, 3), bool)):
        with pytest.raises(TypeError, match=r"background: images has dtype .*, expected uint8 or floats in \[0, 1\]"):
            augment.background(images=integers)


def test_rain_is_drawn_in_pieces_that_change_nothing(monkeypatch):
    x = pictures(6, 40, 30)
    expected = augment.rain()(x, SampleGenerator(0, 0, range(6)))
    monkeypatch.setattr(weather, "POINTS", 1500)  # one image of 48 drops of 12 points
    np.testing.assert_array_equal(augment.rain()(x, SampleGenerator(0, 0, range(6))), expected)
    monkeypatch.setattr(weather, "POINTS", 100)  # a few drops of an image, whose sums get another order
    several = augment.rain()(x, SampleGenerator(0, 0, range(6)))
    np.testing.assert_allclose(several, expected, atol=1e-6)
    alone = augment.rain()(x[3:4], SampleGenerator(0, 0, [3]))
    assert alone.tobytes() == several[3:4].tobytes()


def test_rain_on_many_images_takes_little_memory(monkeypatch):
    monkeypatch.setattr(weather, "POINTS", 2**12)  # for each thread, and there may be many
    x = np.zeros((64, 64, 64, 1), np.float16)
    tracemalloc.start()
    try:
        augment.rain(density=0.2)(x, SampleGenerator(0, 0, range(64)))
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    points = 64 * 0.2 * 64**2 * np.ceil(64 * weather.LONG)
    assert most < 8 * points, "less than one number for each point"


def test_rain_is_thin_and_bright_and_the_sun_only_adds_light():
    dark = np.zeros((20, 32, 32, 3), np.float32)
    wet = augment.rain()(dark, SampleGenerator(0, 0, range(20)))
    assert 0.02 < (wet > 0.1).mean() < 0.4
    assert wet.max(axis=(1, 2, 3)).min() > 0.3
    x = pictures(20, 32, 32)
    sunny = augment.sun_flare()(x, SampleGenerator(0, 0, range(20)))
    assert (sunny >= x).all()
    assert augment.sun_flare()(dark, SampleGenerator(0, 0, range(20))).max(axis=(1, 2, 3)).min() > 0.5


# ---------------------------------------------------------------- blends


@pytest.mark.parametrize("name", sorted(BLENDS))
@given(count=st.integers(1, 9), size=st.tuples(st.integers(1, 9), st.integers(1, 9)), seed=st.integers(0, 99))
def test_the_shares_of_a_blend_are_those_of_the_pixels(name, count, size, seed):
    y = np.random.default_rng(seed).integers(0, 4, count)
    x = np.eye(4, dtype=np.float32)[y][:, None, None].repeat(size[0], 1).repeat(size[1], 2)  # a channel for each class
    made, shares = BLENDS[name](x, y, SampleGenerator(seed, 0, range(count)))
    assert (made.shape, made.dtype, shares.shape, shares.dtype) == (x.shape, x.dtype, (count, 4), np.float32)
    np.testing.assert_allclose(made.mean(axis=(1, 2)), shares, atol=1e-6)
    np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-6)
    again, softer = BLENDS[name](made, shares, SampleGenerator(seed, 1, range(count)))
    np.testing.assert_allclose(softer.sum(axis=1), 1, atol=1e-5)
    if name == "mixup":  # the same everywhere in an image, as here the labels are
        np.testing.assert_allclose(again.mean(axis=(1, 2)), softer, atol=1e-5)
    same, hard = type(BLENDS[name])(4, 0)(x, y, SampleGenerator(seed, 0, range(count)))
    np.testing.assert_array_equal(same, x)
    np.testing.assert_array_equal(hard, np.eye(4)[y])


@pytest.mark.parametrize("name", sorted(BLENDS))
def test_blends_draw_from_their_distribution(name):
    y = np.arange(4000) % 4
    _, shares = type(BLENDS[name])(4, 1.0)(np.zeros((4000, 9, 9, 1), np.float32), y, SampleGenerator(0, 0, range(4000)))
    own = shares[np.arange(4000), y]
    assert len(np.unique(own)) > 20
    assert (own == 1).mean() > 0.2, "a quarter has a partner of its own class"
    assert 0.55 < own.mean() < (0.75 if name == "mixup" else 0.85)


@pytest.mark.parametrize("name", sorted(BLENDS))
def test_bad_labels_are_clear_errors(name):
    x, generator = pictures(2), np.random.default_rng(0)
    for y in (np.zeros(3, int), np.zeros(2), np.zeros((2, 3))):
        with pytest.raises(ValueError, match=rf"{name}: y is .*, expected class indices \(2,\) or shares \(2, 4\)"):
            BLENDS[name](x, y, generator)
    with pytest.raises(ValueError, match=f"{name}: y is from 0 to 4, expected 0 to 3"):
        BLENDS[name](x, np.array([0, 4]), generator)
    with pytest.raises(TypeError, match=f"{name}: x has dtype uint8"):
        BLENDS[name](x.astype(np.uint8), np.array([0, 1]), generator)


# ---------------------------------------------------------------- together


def test_compose_is_one_after_the_other_and_sometimes_is_for_some():
    x = pictures(200)
    a, b = augment.flip(), augment.noise()
    one, two = np.random.default_rng(5), np.random.default_rng(5)
    np.testing.assert_array_equal(augment.compose(a, b)(x, one), b(a(x, two), two))
    np.testing.assert_array_equal(augment.compose()(x, one), x)
    made = augment.sometimes(augment.flip(1), 0.3)(x, SampleGenerator(0, 0, range(200)))
    mirrored = (made == x[:, :, ::-1]).all(axis=(1, 2, 3))
    assert ((made == x).all(axis=(1, 2, 3)) ^ mirrored).all()
    assert 30 < mirrored.sum() < 90
    with pytest.raises(ValueError, match=r"sometimes: the change made \(200, 2, 2, 3\) of images \(200, 8, 8, 3\)"):
        augment.sometimes(augment.crop(0, 2))(x, one)
    for wrong in (augment.sometimes, augment.compose):
        with pytest.raises(TypeError, match=f"{wrong.__name__}: a change is 3, expected a callable"):
            wrong(3)


def test_changes_say_what_they_are():
    assert repr(augment.rotate(15)) == "rotate(degrees=15, border='constant')"
    assert str(augment.rotate(15)) == "rotate(degrees=15)"
    assert str(augment.compose(augment.crop(), augment.flip(0.25))) == "crop(padding=4), flip(p=0.25)"
    assert repr(augment.compose(augment.flip())) == "compose(flip(p=0.5, direction='horizontal'))"
    assert augment.rotate(15) == augment.rotate(15) != augment.rotate(16)
    assert augment.crop(4).times(0.5) == augment.crop(2)


def test_changes_can_be_written_as_text():
    parsed = augment.parse("crop(4, border='reflect'), flip, rotate(degrees=10)")
    assert parsed == augment.compose(augment.crop(4, border="reflect"), augment.flip(), augment.rotate(10))
    assert augment.parse("erase(area=(0.1, 0.2))").changes == (augment.erase(area=(0.1, 0.2)),)
    for text, message in (
        ("turn", "there is no 'turn', expected some of rotate, scale"),
        ("rotate(", "'rotate\\(' is not understood"),
        ("", "'' is not understood"),
        ("rotate(open('x'))", "there is no 'open'"),
        ("rotate({1, 2})", "the settings of rotate.* are not numbers"),
        ("3", "3 in '3' is no name, expected as in 'crop"),
        ("a.b(3)", "a.b is no name that can be called"),
        ("rotate(size=3)", "rotate\\(size=3\\): .*unexpected keyword"),
        ("rotate(500)", "degrees is 500"),
        ("rotate(**{'degrees': 3})", "the settings of rotate"),
        ("crop(padding=4, padding=1)", r"crop\(padding=4, padding=1\): a setting is given twice"),
        ("crop(4, padding=1)", r"crop\(4, padding=1\): multiple values .*expected the settings of crop: padding, size"),
        ("flip(border='a')", r"flip\(border='a'\): .*'border', expected the settings of flip: p, direction"),
        ("flip(1, 'vertical', 3)", "too many .* expected the settings of flip: p, direction"),
        ("flip('often')", r"flip\('often'\): flip: p is 'often', expected a number"),
    ):
        with pytest.raises(ValueError, match=message):
            augment.parse(text)


@given(st.text(max_size=30))
def test_any_text_gives_changes_or_a_clear_error(text):
    with contextlib.suppress(ValueError):
        assert isinstance(augment.parse(text), augment.compose)


@pytest.mark.parametrize("change", [augment.crop, augment.crop_flip])
def test_a_frame_far_wider_than_any_image_is_refused(change):
    with pytest.raises(ValueError, match=r"padding is 1001, expected an integer in \[0, 1000\]"):
        change(padding=1001)
    assert change(padding=1000)(pictures(1), SampleGenerator(0, 0, range(1))).shape == pictures(1).shape

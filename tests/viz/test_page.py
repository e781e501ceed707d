"""The interactive page: what is packed into it, that it stands alone, and that no text can break out of it."""

from __future__ import annotations

import base64
import hashlib
import html
import itertools
import json
import re
import zlib
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from minidl import surfaces
from minidl.optim import catalogue
from minidl.viz import page, race_page, write_race_page

LOST = 65535


@pytest.fixture(scope="module")
def small():
    """Ten steps of a few methods on Beale's function: with a rate, with ε, with β, and with nothing to tune."""
    return surfaces.sweep(
        surfaces.beale(), "sgd,heavyball,adadelta,adam,newton", steps=10,
        rates=(0.001, 0.1, 10.0), epsilons=(1e-6, 1e-3, 1.0), momenta=(0.0, 0.9),
    )  # fmt: skip


def data_of(text):
    """Return the JSON of a page."""
    return json.loads(re.search(r'<script id="race" type="application/json">(.*?)</script>', text, re.DOTALL)[1])


def decoded(data):
    """Return the paths (runs, steps + 1, 2) and the losses (runs, steps + 1) that a page holds, from its definition."""
    octets = np.frombuffer(zlib.decompress(base64.b64decode(data["codes"])), np.uint8).astype(int)
    high, low = octets.reshape(2, 3, -1, data["steps"] + 1)
    codes = (high * 256 + low).cumsum(axis=-1) % 65536
    shares = np.where(codes == LOST, np.nan, codes / 65534)
    places = []
    for share, (left, right) in zip(shares[:2], data["domain"], strict=True):
        places.append((left + right) / 2 + (right - left) / 2 * np.sinh(data["reach"] * (2 * share - 1)))
    floor, ceiling = data["loss"]
    return np.stack(places, axis=-1), 10 ** (floor + shares[2] * (ceiling - floor))


def runs_of(sweep, name):
    """Return what the families hold under this name, one run after the other."""
    return np.concatenate([getattr(f, name).reshape(-1, *getattr(f, name).shape[2:]) for f in sweep.families])


def test_paths_and_losses_come_back(small):
    data = data_of(race_page(small))
    paths, losses = decoded(data)
    expected = runs_of(small, "paths")
    np.testing.assert_array_equal(np.isnan(paths), np.isnan(expected))
    assert np.isnan(expected).any()
    assert (np.abs(expected) > 100).any()
    for axis, (left, right) in enumerate(small.problem.domain):
        away = np.abs(expected[..., axis] - (left + right) / 2) / (right - left) * 2
        resolution = 0.51 * (right - left) / 2 * np.sqrt(1 + away**2) * 2 * data["reach"] / 65534
        error = np.abs(paths[..., axis] - expected[..., axis])
        assert (error <= resolution)[~np.isnan(error)].all()
    np.testing.assert_allclose(losses, np.maximum(runs_of(small, "losses"), 1e-16), rtol=0.003)


def test_inside_the_picture_a_path_is_true_to_a_quarter_of_a_pixel(small):
    paths, _ = decoded(data_of(race_page(small)))
    expected = runs_of(small, "paths")
    for axis, (left, right) in enumerate(small.problem.domain):
        inside = (expected[..., axis] >= left) & (expected[..., axis] <= right)
        assert np.abs(paths - expected)[inside, axis].max() < 0.25 * (right - left) / 700


def test_the_page_knows_settings_best_places_and_arrivals(small):
    families = data_of(race_page(small))["families"]
    adam, newton = families[3], families[4]
    assert [family["name"] for family in families] == ["sgd", "heavyball", "adadelta", "adam", "newton"]
    assert adam["shape"] == [3, 2]
    assert adam["settings"][2 * 2 + 1] == "η 10, β₁ 0.9"
    assert adam["best"] == list(small.families[3].best)
    assert newton["settings"] == [""]
    distance = np.linalg.norm(small.families[4].paths[0, 0] - (3.0, 0.5), axis=-1)
    assert newton["reached"] == [next(t for t in range(11) if distance[t] < 0.01)]
    assert families[0]["reached"] == [-1, -1, -1]


def test_the_picture_is_widened_to_hold_the_start():
    sweep = surfaces.sweep(surfaces.rosenbrock(), "sgd", start=(-5.0, 1.0), steps=2)
    data = data_of(race_page(sweep))
    assert data["domain"] == [[-5.2, 2.0], [-1.0, 3.0]]
    assert data["units"] == [4000, round(4000 * 4 / 7.2)]
    far = data_of(race_page(replace(sweep, start=(-26.0, 1.0))))["domain"]
    np.testing.assert_allclose(far, [[-26.2, 2.0], [1 - 28.2 / 4, 1 + 28.2 / 4]])


def test_the_grids_of_the_sliders(small):
    data = data_of(race_page(small))
    assert (data["tuned"], data["rates"], data["momenta"]) == ("lr", ["0.001", "0.1", "10"], ["0", "0.9"])
    only = replace(small, families=small.families[2:3])
    assert (data_of(race_page(only))["tuned"], data_of(race_page(only))["rates"][1]) == ("eps", "0.001")
    none = data_of(race_page(replace(small, families=small.families[4:])))
    assert (none["rates"], none["momenta"]) == ([], [])


def test_the_caption_states_the_budget(small):
    text = race_page(small)
    assert (
        "same grid, as far as it has these settings: 3 rates (Adadelta: of ε) × 2 values of β, γ or β₁; best =" in text
    )
    assert "Newton had no grid" in text
    assert "for Adadelta, which has no rate, the slider sets ε" in text
    assert "β of Heavy ball; γ of Adadelta; β₁ of Adam" in text
    assert (
        "grid" not in race_page(replace(small, families=small.families[4:])).split('class="note"')[1].split("</p>")[0]
    )


def test_contours_follow_the_surface(small):
    """The region above a level has the area that the function says it has."""
    domain = np.array(small.problem.domain)
    contours = data_of(race_page(small))["contours"]
    assert len(contours) == 16
    grid = np.stack(np.meshgrid(*(np.linspace(low, high, 300) for low, high in domain)), axis=-1)
    logs = np.log10(small.problem(grid).data)
    levels = np.linspace(np.quantile(logs, 0.004), logs.max(), 16)
    whole = 4000 * round(4000 * np.ptp(domain[1]) / np.ptp(domain[0]))
    for k in (3, 8, 13):
        area = sum(signed_area(ring) for ring in contours[k][0].split("M") if ring)
        assert abs(area) / whole == pytest.approx((logs > levels[k - 1]).mean(), abs=0.01)


def signed_area(ring):
    start, moves = (np.array(re.findall(r"-?\d+", part), dtype=int).reshape(-1, 2) for part in ring.split("l"))
    x, y = np.concatenate([start, moves]).cumsum(axis=0).T
    return (x * np.roll(y, -1) - y * np.roll(x, -1)).sum() / 2


def test_fifteen_methods_with_the_whole_grid_stay_below_two_megabytes():
    """Rastrigin's function gives the most erratic runs, which are the hardest to pack; zlib cannot see so far back."""
    sweep = surfaces.sweep(surfaces.rastrigin(), "nesterov")
    assert sweep.families[0].paths.shape == (17, 6, 201, 2)
    assert len(race_page(replace(sweep, families=sweep.families * 15)).encode()) < 2_000_000


class Balanced(HTMLParser):
    """Checks that every element is closed in turn, and collects what the page refers to."""

    VOID = frozenset({"meta", "link", "input", "br"})

    def __init__(self):
        super().__init__()
        self.open, self.references, self.ids = [], [], []

    def handle_starttag(self, tag, attributes):
        self.references += [value for name, value in attributes if name in ("src", "href", "action", "data", "srcset")]
        self.ids += [value for name, value in attributes if name == "id"]
        assert not any(name.startswith("on") or name == "style" for name, _ in attributes), attributes
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def parsed(text):
    parser = Balanced()
    parser.feed(text)
    parser.close()
    assert parser.open == []
    return parser


def test_the_page_is_whole_html(small):
    text = race_page(small)
    parser = parsed(text)
    assert len(set(parser.ids)) == len(parser.ids)
    assert text.startswith("<!doctype html>")
    assert not re.search(r"\$[a-z_]+(?![a-z_{(])", re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL))
    used = set(re.findall(r'byId\("([a-z-]+)"\)', text))
    assert used <= set(parser.ids)


def test_the_page_refers_to_nothing_outside(small):
    text = race_page(small)
    assert parsed(text).references == ["data:,"]
    assert re.findall(r"https?://[^\s\"'<)]*", text) == ["http://www.w3.org/2000/svg"]
    assert not re.search(r"@import|url\(|fetch\(|XMLHttpRequest|WebSocket|import\(", text)


def test_the_policy_allows_this_style_and_this_script_alone(small):
    text = race_page(small)
    policy = html.unescape(re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1])
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    for name, element in (("style", r"<style>(.*?)</style>"), ("script", r'<script type="module">(.*?)</script>')):
        source = re.search(element, text, re.DOTALL)[1]
        digest = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
        assert f"{name}-src 'sha256-{digest}'" in policy


def test_hostile_texts_stay_texts(small):
    evil = "</title></script><script>alert('1')</script><!-- $data & \"$nothing\""
    families = (replace(small.families[0], method=replace(small.families[0].method, label=evil)), *small.families[1:])
    hostile = replace(small, problem=replace(small.problem, title=evil, equation=evil), families=families)
    text = race_page(hostile)
    assert evil not in text
    assert text.count("<script") == race_page(small).count("<script")
    parsed(text)
    assert data_of(text)["families"][0]["label"] == evil
    assert f"<h1>{html.escape(evil)}</h1>" in text


def test_each_method_looks_different_also_to_the_colour_blind():
    """No two share a marker; whom two colours look alike, to any eye, has different dashes."""
    looks = [page.LOOKS[k] for k in range(len(catalogue.NAMES))]
    assert len({marker for _, _, marker in looks}) == len(looks)
    for (one, dashes, _), (other, others, _) in itertools.combinations(looks, 2):
        if min(np.linalg.norm(lab(one, eye) - lab(other, eye)) for eye in EYES) < 14:
            assert dashes != others, (one, other)


# Machado, Oliveira and Fernandes 2009: what is seen without the red, the green and the blue cones, in linear RGB.
EYES = (
    np.eye(3),
    np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]),
    np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]),
    np.array([[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]),
)


def lab(color, eye):
    """Return a colour in CIE L*a*b*, in which distances are as large as they look."""
    rgb = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = eye @ np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x, y, z = np.cbrt(xyz @ linear.clip(0.001, 1) / (0.9505, 1.0, 1.089))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def test_the_page_is_written_to_a_file(small, tmp_path):
    path = write_race_page(small, tmp_path / "race.html")
    assert path.read_text(encoding="utf-8") == race_page(small)
    assert list(tmp_path.iterdir()) == [path]


def test_bad_input_is_named(small):
    with pytest.raises(TypeError, match="race_page: sweep is of type Problem, expected a Sweep"):
        race_page(small.problem)
    with pytest.raises(ValueError, match="race_page: the sweep holds no methods"):
        race_page(replace(small, families=()))

"""Pictures of trials: what is drawn where, and that nothing odd breaks them."""

from __future__ import annotations

import matplotlib.colors
import numpy as np
import pytest

from minidl import viz
from minidl.data import sharpening
from minidl.trials import TrialCurves, estimate
from minidl.viz.style import ACCENT, FAINT, OTHER

RNG = np.random.default_rng(0)


def curves(top, epochs=6, number=3):
    return np.linspace(0.3, top, epochs) + RNG.normal(0, 0.003, (number, epochs))


def words(axes):
    return [text.get_text() for text in [axes.title, axes._left_title, *axes.texts] if text.get_text()]


def lines(axes, color, marker=None):
    found = [line for line in axes.lines if line.get_color() == color and len(line.get_xdata())]
    return [line for line in found if marker is None or line.get_marker() == marker]


def faint(axes):
    """Return the lines of the other recipes; a single epoch is a dot."""
    (collection,) = [c for c in axes.collections if "LineCollection" in type(c).__name__ and _colour(c) == FAINT]
    dots = [np.array([[x, y]]) for line in lines(axes, FAINT) for x, y in line.get_xydata() if np.isfinite(y)]
    return [*collection.get_segments(), *dots]


def _colour(collection):
    colors = collection.get_colors()
    return matplotlib.colors.to_hex(colors[0]) if len(colors) else FAINT


def assert_all_within(figure, path):
    """The picture can be written, and no word of it lies outside of it."""
    assert viz.save(figure, path, dpi=50).stat().st_size > 2_000
    renderer = figure.canvas.get_renderer()
    texts = [text for axes in figure.axes for text in [axes._left_title, *axes.texts] if text.get_text()] + figure.texts
    for axes in (axes for axes in figure.axes if axes.axison):
        low, high = sorted(axes.get_ylim())
        texts += [x for x in axes.get_yticklabels() if x.get_text() and low <= x.get_position()[1] <= high]
    for text in texts:
        box = text.get_window_extent(renderer)
        assert box.x0 >= -1, text
        assert box.y0 >= -1, text
        assert box.x1 <= figure.bbox.x1 + 1, text
        assert box.y1 <= figure.bbox.y1 + 1, text
    titles = [axes._left_title for axes in figure.axes if axes._left_title.get_text()]
    assert not any(title.get_parse_math() for title in titles)


def test_a_panel_has_the_mean_the_band_and_the_others_behind(tmp_path):
    good, bad = curves(0.9), curves(0.8)
    recipes = [TrialCurves("good", "b 0.5", good), TrialCurves("bad", "", bad)]
    figure = viz.learning_curves(recipes, "a title", "a line", "validation accuracy")
    panel, other, ranking = figure.axes
    (mean,) = lines(panel, ACCENT)
    np.testing.assert_allclose(mean.get_ydata(), good.mean(axis=0))
    np.testing.assert_array_equal(mean.get_xdata(), np.arange(1, 7))
    (behind,) = faint(panel)
    np.testing.assert_allclose(behind, np.column_stack((np.arange(1, 7), bad.mean(axis=0))))
    band = next(c for c in panel.collections if "Fill" in type(c).__name__ or "Poly" in type(c).__name__)
    edges = band.get_paths()[0].vertices
    for epoch in range(6):
        at = edges[np.isclose(edges[:, 0], epoch + 1)][:, 1]
        assert (at.min(), at.max()) == pytest.approx((good[:, epoch].min(), good[:, epoch].max()))
    assert panel.get_ylim() == other.get_ylim()
    assert panel.get_ylabel() == "validation accuracy"
    one = estimate(good.max(axis=1).tolist())
    assert words(panel) == ["good", "b 0.5", f"{one.percent()} %"]
    assert words(ranking)[0] == "validation accuracy: maximum"
    assert {text.get_text() for text in figure.legends[0].texts} >= {"mean of the trials", "lowest to highest trial"}
    assert_all_within(figure, tmp_path / "a.png")


@pytest.mark.parametrize("statistic", ["maximum", "last", "final"])
def test_the_ranking_is_of_the_statistic_best_first(statistic):
    recipes = [TrialCurves(name, "", curves(top)) for name, top in (("b", 0.8), ("c", 0.7), ("a", 0.9))]
    ranking = viz.learning_curves(recipes, "", "", statistic=statistic, reference=[("c", 0.75), ("d", 0.6)]).axes[-1]
    assert [label.get_text() for label in ranking.get_yticklabels()] == ["a", "b", "c", "d"]
    for place, i in enumerate((2, 0, 1)):
        values, one = list(recipes[i].values(statistic).values()), recipes[i].estimate(statistic)
        mine = [line for line in lines(ranking, ACCENT) if set(line.get_ydata()) == {place}]
        assert [sorted(line.get_xdata()) for line in mine] == [sorted(values), list(one.interval), [one.mean]]
        assert one.percent() in words(ranking)
    hollow = lines(ranking, OTHER, "D")
    assert [(line.get_xdata()[0], line.get_ydata()[0]) for line in hollow] == [(0.75, 2), (0.6, 3)]
    assert all(line.get_markerfacecolor() == "none" for line in hollow)
    assert {"75.00", "60.00"} <= set(words(ranking))
    low, high = ranking.get_xlim()
    assert low < 0.6
    assert high > recipes[2].estimate(statistic).mean


def test_trials_that_diverged_end_in_a_cross_and_are_counted(tmp_path):
    some = TrialCurves("some", "", [*curves(0.9), [0.3, 0.4], None])
    lost = TrialCurves("lost", "", [[0.2, 0.3, None, None, None, None], [None]])
    figure = viz.learning_curves([some, lost, TrialCurves("nothing", "", [None])], "t", "s")
    first, second, third, ranking = figure.axes
    crosses = lines(first, ACCENT, "x")
    assert [(line.get_xdata()[0], line.get_ydata()[0]) for line in crosses] == [(2, 0.4)]
    np.testing.assert_allclose(lines(first, ACCENT, "o")[0].get_ydata(), np.mean(some.curves[:3], axis=0))
    assert "2 of 5 diverged" in words(first)
    assert words(second) == ["lost", "diverged"]
    assert not lines(second, ACCENT, "o")
    assert [line.get_xydata().tolist() for line in lines(second, ACCENT, "x")] == [[[2, 0.3]]]
    assert words(third) == ["nothing", "diverged"]
    assert words(ranking)[1:] == [some.estimate().percent(), "diverged", "diverged"]
    assert "diverged" in {text.get_text() for text in figure.legends[0].texts}
    assert_all_within(figure, tmp_path / "a.png")


def test_groups_have_limits_a_ranking_and_values_of_their_own():
    recipes = [
        TrialCurves(name, "", curves(top), group)
        for group, top in (("1/2", 0.9), ("1/8", 0.6))
        for name in ("SGD", "both")
    ]
    figure = viz.learning_curves(recipes, "t", "s", reference=[("1/2 · SGD", 0.88), ("both", 0.5)])
    a, b, first, c, d, second = figure.axes
    assert a.get_ylim() == b.get_ylim() != c.get_ylim() == d.get_ylim()
    np.testing.assert_allclose(faint(a)[0][:, 1], np.mean(recipes[1].curves, axis=0))
    assert len(faint(a)) == 1
    assert {"1/2", "88.00", "50.00"} <= set(words(first))
    assert {"1/8", "50.00"} <= set(words(second))
    assert "88.00" not in words(second)


def test_one_recipe_far_below_does_not_press_the_ranking_flat():
    recipes = [TrialCurves(n, "", [[t - 0.1, t]]) for n, t in (("a", 0.934), ("b", 0.937), ("c", 0.932), ("d", 0.1))]
    figure = viz.learning_curves(recipes, "t", "s")
    ranking = figure.axes[-1]
    assert ranking.get_xlim()[0] > 0.9
    assert [line.get_ydata()[0] for line in lines(ranking, ACCENT, "<")] == [3]
    assert "10.00" in words(ranking)
    assert figure.axes[3].get_ylim()[0] < 0.1, "its own panel shows it"


@pytest.mark.parametrize(
    "recipes",
    [
        [TrialCurves("one trial of one epoch", "", [[0.8]])],
        [TrialCurves("a", "", [[0.8], [0.9]]), TrialCurves("b", "", [[0.5], [None]])],
        [TrialCurves("a", "", [[1.0] * 3] * 3), TrialCurves("b", "", [[0.0] * 3] * 3)],
        [TrialCurves("a", "", [[0.9] * 30] * 2)],
        [TrialCurves("a", "", [None, None])],
        [TrialCurves("a", "", [])],
        [TrialCurves("$x$ " * 12, "$\\no_$ " * 12, [[0.1, 0.2]])],
    ],
)
def test_odd_trials_are_drawn(recipes, tmp_path):
    recipes = [TrialCurves(f"{i} {recipe.name}", recipe.note, recipe.curves) for i, recipe in enumerate(recipes)]
    figure = viz.learning_curves(recipes, "a title", "a line")
    assert len(figure.axes) == len(recipes) + 1
    assert_all_within(figure, tmp_path / "a.png")
    for axes in figure.axes[:-1]:
        ticks = [tick for tick in axes.get_xticks() if axes.get_xlim()[0] <= tick <= axes.get_xlim()[1]]
        assert ticks == [int(tick) for tick in ticks], "epochs are whole"
        assert min(ticks) >= 1


@pytest.mark.parametrize("number", [7, pytest.param(24, marks=pytest.mark.slow)])
def test_many_recipes_have_their_places(number, tmp_path):
    name = "a long name of a recipe that goes on"
    recipes = [TrialCurves(f"{i} {name}", f"{name} and on and on", curves(0.8 + i / 200, 2, 2)) for i in range(number)]
    figure = viz.learning_curves(recipes, "many", "recipes")
    assert len(figure.axes) == number + 1
    assert len(faint(figure.axes[0])) == number - 1
    assert not any(axes.texts[0].get_in_layout() for axes in figure.axes), "a long note makes no panel narrower"
    assert_all_within(figure, tmp_path / "a.png")
    renderer = figure.canvas.get_renderer()
    titles = [text.get_window_extent(renderer) for axes in figure.axes for text in (axes._left_title, *axes.texts[:1])]
    titles += [label.get_window_extent(renderer) for label in figure.axes[-1].get_yticklabels()]
    assert not any(box.overlaps(other) for i, box in enumerate(titles) for other in titles[:i])


def test_a_sweep_has_a_line_a_scheme_and_the_baseline_with_its_interval(tmp_path):
    values = (0.9, 0.1, 0.5)
    recipes = {value: TrialCurves(f"b {value}", "", curves(0.8 + value / 10)) for value in values}
    baseline = TrialCurves("SGD", "", curves(0.78))
    figure = viz.parameter_sweep(
        {"Laplace": recipes, "Logistic": {0.5: recipes[0.1]}}, "t", "s", parameter="b", baselines=[baseline]
    )
    (axes,) = figure.axes
    line = next(line for line in lines(axes, ACCENT) if len(line.get_xdata()) == 3)
    np.testing.assert_allclose(line.get_xdata(), [0.1, 0.5, 0.9], atol=0.02)
    np.testing.assert_allclose(line.get_ydata(), [recipes[value].estimate().mean for value in (0.1, 0.5, 0.9)])
    drawn = [c.get_segments()[0] for c in axes.collections if _colour(c) == ACCENT]
    for segment, value in zip(drawn, (0.1, 0.5, 0.9), strict=True):
        assert sorted(segment[:, 1]) == pytest.approx(sorted(recipes[value].estimate().interval))
    level = next(line for line in axes.lines if list(line.get_xdata()) == [0, 1])
    assert level.get_ydata()[0] == baseline.estimate().mean
    (band,) = axes.patches
    low, high = band.get_extents().transformed(axes.transData.inverted()).intervaly
    assert (low, high) == pytest.approx(baseline.estimate().interval)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0.1", "0.5", "0.9"]
    assert axes.get_xlabel() == "b"
    assert axes.get_xscale() == "linear"
    assert [text.get_text() for text in figure.legends[0].texts] == ["Laplace", "Logistic", "SGD"]
    assert_all_within(figure, tmp_path / "a.png")


def test_a_sweep_of_groups_over_decades_with_trials_that_diverged(tmp_path):
    whole, some, lost = curves(0.9), [*curves(0.8), None], [None, [0.1]]
    points = [
        (value, TrialCurves("", "", found, group))
        for group in ("1/2", "1/8")
        for value, found in ((1e-4, whole), (1e-3, some), (1e-2, lost))
    ]
    figure = viz.parameter_sweep(
        {"$x$": points}, "t", "s", parameter="weight decay",
        baselines=[TrialCurves("a", "", whole, "1/8"), TrialCurves("b", "", lost, "1/8")],
    )  # fmt: skip
    first, second = figure.axes
    assert words(first)[1:] == ["1/2"]
    assert first.get_xscale() == "log"
    assert [line.get_markerfacecolor() for line in lines(first, ACCENT, "o")] == [ACCENT, "white"]
    assert [line.get_xdata()[0] for line in lines(first, ACCENT, "x")] == [1e-2]
    assert not first.patches
    assert len(second.patches) == 1
    legend = [text.get_text() for text in figure.legends[0].texts]
    assert legend == ["$x$", "a", "b: diverged", "some diverged", "all diverged"]
    assert_all_within(figure, tmp_path / "a.png")


def test_stages_are_shaded_and_show_the_image_as_it_was(tmp_path):
    image = RNG.random((12, 10, 1))
    recipes = [TrialCurves("sharpened", "", curves(0.9)), TrialCurves("plain", "", [*curves(0.8), [0.1, 0.2]])]
    figure = viz.sharpening_stages(recipes, [3, 3, 2, 1, 1, 1], image, "t", "s")
    axes, *small = figure.axes
    assert [one.get_title() for one in small] == ["3 × 3", "2 × 2", "original"]
    for one, n in zip(small, (3, 2, 1), strict=True):
        np.testing.assert_allclose(one.images[0].get_array(), sharpening.blur(image[None], n)[0, ..., 0])
    spans = [(patch.get_x(), patch.get_x() + patch.get_width(), patch.get_alpha()) for patch in axes.patches]
    assert [span[:2] for span in spans] == [(0.5, 2.5), (2.5, 3.5), (3.5, 6.5)]
    assert spans[0][2] > spans[1][2] > spans[2][2] == 0
    for recipe, color in zip(recipes, (ACCENT, OTHER), strict=True):
        np.testing.assert_allclose(lines(axes, color, "o")[0].get_ydata(), np.mean(recipe.curves[:3], axis=0))
    assert len(lines(axes, OTHER, "x")) == 1
    one = recipes[0].estimate("final")
    assert figure.legends[0].texts[0].get_text() == f"sharpened: {one.percent()} % after the last epoch"
    assert figure.legends[0].texts[1].get_text().endswith("(1 of 4 diverged)")
    assert_all_within(figure, tmp_path / "a.png")


def test_many_stages_show_some_of_their_images_and_bytes_in_colour(tmp_path):
    image = RNG.integers(0, 256, (16, 16, 3), dtype=np.uint8)
    recipe = TrialCurves("a", "", curves(0.9, 20, 1))
    figure = viz.sharpening_stages([recipe], [max(1, 14 - i) for i in range(20)], image, "t", "s")
    titles = [one.get_title() for one in figure.axes[1:]]
    assert len(titles) == 9
    assert (titles[0], titles[-1]) == ("14 × 14", "original")
    np.testing.assert_allclose(figure.axes[-1].images[0].get_array(), image / 255, atol=1e-6)
    assert len(figure.axes[0].patches) == 14
    assert_all_within(figure, tmp_path / "a.png")
    alone = viz.sharpening_stages([TrialCurves("a", "", [[0.8]])], [1], image, "t", "s")
    assert [one.get_title() for one in alone.axes[1:]] == ["original"]
    assert_all_within(alone, tmp_path / "a.png")


ONE = TrialCurves("one", "", [[0.5]])
IMAGE = np.zeros((8, 8, 1))


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: viz.learning_curves([], "", ""), "learning_curves: trials is empty"),
        (lambda: viz.learning_curves([ONE], "", "", statistic="mean"), "learning_curves: statistic is 'mean'"),
        (lambda: viz.learning_curves([ONE], "", "", reference=[("a", 93.0)]), "reference has 93.0 for 'a'"),
        (lambda: viz.learning_curves([ONE, ONE], "", ""), "trials has 'one' more than once"),
        (lambda: viz.parameter_sweep({}, "", "", parameter="b"), "parameter_sweep: schemes has no recipe"),
        (lambda: viz.parameter_sweep({"a": [(1, ONE), (1, ONE)]}, "", "", parameter="b"), "'a' has 1 twice"),
        (
            lambda: viz.parameter_sweep({name: {1: ONE} for name in "abcdefg"}, "", "", parameter="b"),
            "has 7, expected at",
        ),
        (
            lambda: viz.parameter_sweep(
                {"a": {1: ONE}}, "", "", parameter="b", baselines=[TrialCurves("x", "", [[0.5]], "g")]
            ),
            "the baseline 'g · x' is of no group",
        ),
        (lambda: viz.parameter_sweep({"a": {1: ONE}}, "", "", parameter="b", statistic="x"), "statistic is 'x'"),
        (lambda: viz.sharpening_stages([], [1], IMAGE, "", ""), "trials has 0 recipes, expected 1 to 6"),
        (lambda: viz.sharpening_stages([ONE], [], IMAGE, "", ""), "blurs has 0 numbers, expected one for each of 1"),
        (lambda: viz.sharpening_stages([ONE], [1], IMAGE[0], "", ""), r"image has shape \(8, 1\)"),
        (lambda: viz.sharpening_stages([ONE], [9], IMAGE, "", ""), "blur: n is 9"),
    ],
)
def test_what_cannot_be_drawn_is_refused(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()

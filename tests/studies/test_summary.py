"""What trials say together: closed forms, and SciPy as the oracle of the intervals."""

from __future__ import annotations

import json
import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from minidl import trials
from minidl.studies import summary
from minidl.trials import TrialCurves, estimate

FRACTIONS = st.floats(0, 1, allow_subnormal=False)


@given(st.lists(FRACTIONS, min_size=2, max_size=12))
def test_the_interval_is_students(values):
    found = estimate(values)
    assert found.number == len(values)
    assert found.mean == pytest.approx(np.mean(values), abs=1e-15)
    error = stats.sem(values) if np.ptp(values) else 0.0
    expected = stats.t.ppf(0.975, len(values) - 1) * error
    assert found.half_width == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert found.interval == (found.mean - found.half_width, found.mean + found.half_width)


def test_closed_forms_of_the_interval():
    found = estimate([0.9, 0.92])  # two values: t is tan(0.475 π), the deviation their distance over √2
    assert found.half_width == pytest.approx(math.tan(0.475 * math.pi) * 0.01, rel=1e-12)
    assert estimate([0.7]) == trials.Estimate(0.7, None, 1)
    assert estimate([0.7]).interval == (0.7, 0.7)
    assert estimate([]) is None
    assert estimate([0.3] * 5).half_width == 0


@pytest.mark.parametrize(
    ("epochs", "tail"), [(1, 1), (3, 1), (10, 1), (14, 1), (15, 2), (24, 2), (25, 3), (48, 5), (100, 10), (160, 16)]
)
def test_a_tenth_of_the_epochs_is_rounded(epochs, tail):
    assert trials.tail_length(epochs) == tail
    curve = np.arange(epochs) / epochs
    recipe = TrialCurves("a", "", [curve])
    assert recipe.values("last")[0] == pytest.approx(curve[-tail:].mean(), abs=1e-15)
    assert recipe.values("maximum") == recipe.values("final") == {0: curve[-1]}


@given(st.integers(1, 30), st.integers(1, 6), st.randoms(use_true_random=False))
def test_statistics_are_means_over_the_trials(epochs, number, random):
    curves = [[random.random() for _ in range(epochs)] for _ in range(number)]
    (found,) = summary.summarize([TrialCurves("a", "note", curves)])
    last = max(1, math.floor(epochs / 10 + 0.5))
    assert found.maximum.mean == pytest.approx(np.max(curves, axis=1).mean())
    assert found.last.mean == pytest.approx(np.array(curves)[:, -last:].mean())
    assert found.final.mean == pytest.approx(np.array(curves)[:, -1].mean())
    assert (found.trials, found.counted, found.diverged) == (number, str(number), ())
    assert (found.maximum.half_width is None) == (number == 1)


def test_a_trial_that_diverged_is_counted_and_named_but_in_no_mean():
    full = [0.1, 0.5, 0.6, 0.8]
    recipe = TrialCurves(
        "a", "", [full, full[:3], None, [], [0.9, 0.9, 0.9, None], [0.9, math.nan, 0.9, 0.9], full], seeds=range(10, 17)
    )
    assert recipe.diverged == (11, 12, 13, 14, 15)
    assert recipe.finished == [full, full]
    assert recipe.values() == {10: 0.8, 16: 0.8}
    (found,) = summary.summarize([recipe])
    assert found.counted == "2 of 7 (5 diverged)"
    assert found.maximum == trials.Estimate(0.8, 0.0, 2)
    assert "Diverged, in no mean: a (seeds 11, 12, 13, 14, 15)." in summary.explanation([found])


def test_the_planned_epochs_are_the_longest_of_all_recipes_or_what_a_recipe_says():
    short, long = TrialCurves("short", "", [[0.1, 0.2]]), TrialCurves("long", "", [[0.1, 0.2, 0.3]])
    one, other = summary.summarize([short, long])
    assert (one.diverged, other.diverged) == ((0,), ())
    assert one.maximum is one.last is one.final is None
    said = TrialCurves("short", "", [[0.1, 0.2]], epochs=2)
    assert summary.summarize([said, long])[0].diverged == ()
    assert TrialCurves("a", "", [[0.1]], epochs=2).diverged == (0,)
    assert TrialCurves("a", "", [None, None]).diverged == (0, 1)
    (nothing,) = summary.summarize([TrialCurves("a", "", [None])])
    assert (nothing.counted, nothing.maximum) == ("0 of 1 (1 diverged)", None)


def test_differences_are_paired_by_seed():
    rng = np.random.default_rng(0)
    base = rng.random((4, 20)) / 2
    ours = base + rng.random((4, 1)) / 4
    plain = TrialCurves("plain", "", base, seeds=[1, 2, 3, 4])
    better = TrialCurves("better", "", [*ours[[3, 1]], None, ours[0], base[0]], seeds=[4, 2, 3, 1, 9])
    standard, found = summary.summarize([plain, better], "plain")
    assert standard.differences == {}
    pairs = [3, 1, 0]
    for name, of in (
        ("maximum", lambda c: c.max(1)),
        ("last", lambda c: c[:, -2:].mean(1)),
        ("final", lambda c: c[:, -1]),
    ):
        apart = of(ours)[pairs] - of(base)[pairs]
        result = stats.ttest_rel(of(ours)[pairs], of(base)[pairs]).confidence_interval(0.95)
        assert found.differences[name].number == 3
        assert found.differences[name].mean == pytest.approx(apart.mean())
        assert found.differences[name].interval == pytest.approx((result.low, result.high))


def test_a_baseline_is_that_of_the_group():
    recipes = [
        TrialCurves(name, "", [[value]], group)
        for group, values in (("half", (0.8, 0.9)), ("quarter", (0.5, 0.55)), ("alone", (0.4,)))
        for name, value in zip(("one", "plain"), values, strict=False)
    ]
    found = summary.summarize(recipes, "plain")
    assert found[0].differences["final"].mean == pytest.approx(-0.1)
    assert found[2].differences["final"].mean == pytest.approx(-0.05)
    assert found[4].differences == {}
    assert found[0].label == "half · one"
    apart = summary.summarize(
        [TrialCurves("a", "", [[0.5]], seeds=[1]), TrialCurves("b", "", [[0.5]], seeds=[2])], baseline="a"
    )
    assert apart[1].differences == {}, "no seed in common"


RECIPES = [
    TrialCurves("SGD", "", [[0.8, 0.9], [0.7, 0.92], None], seeds=[0, 1, 5]),
    TrialCurves("both | α", "b 0.5", [[0.8, 0.93], [0.7, 0.94]]),
    TrialCurves("lost", "lr 9", [None]),
]
T2 = math.tan(0.475 * math.pi)  # Student's t of two values


def test_the_table_as_text():
    found = summary.summarize(RECIPES, "SGD")
    lines = summary.text_table(found, "title", columns={"seconds": ["1", "2", "–"]}).splitlines()
    assert lines[0] == "title"
    assert [heading.strip() for heading in re.split("  +", lines[1].strip())] == [
        "recipe", "settings", "trials", "maximum (%)", "last 10 % of epochs (%)", "difference", "seconds"
    ]  # fmt: skip
    half = f"{T2:.2f}"
    assert lines[3].split("  ")[-1].strip() == "1"
    assert "2 of 3 (1 diverged)" in lines[3]
    assert lines[3].count(f"91.00 ± {half}") == 2
    assert f"93.50 ± {T2 / 2:.2f}" in lines[4]
    assert f"+2.50 ± {T2 / 2:.2f}" in lines[4]
    assert lines[5].split() == ["lost", "lr", "9", "0", "of", "1", "(1", "diverged)", "–", "–", "–", "–"]
    assert lines[6].startswith("Mean over the trials ± half of its 95 % confidence interval (Student's t).")
    assert lines[6].endswith("Diverged, in no mean: SGD (seed 5), lost (seed 0).")


def test_the_table_in_markdown():
    found = summary.summarize(RECIPES, "SGD")
    lines = summary.markdown_table(found, statistics=["final"], columns={"paper\nmax": ["93.36", "a|b", ""]}).split(
        "\n"
    )
    half = f"{T2:.2f}"
    assert lines == [
        "| recipe | settings | trials | last epoch (%) | difference | paper max |",
        "| :--- | :--- | ---: | ---: | ---: | ---: |",
        f"| SGD |  | 2 of 3 (1 diverged) | 91.00 ± {half} | – | 93.36 |",
        f"| both \\| α | b 0.5 | 2 | 93.50 ± {T2 / 2:.2f} | +2.50 ± {T2 / 2:.2f} | a\\|b |",
        "| lost | lr 9 | 0 of 1 (1 diverged) | – | – |  |",
        "",
        "Mean over the trials ± half of its 95 % confidence interval (Student's t). Difference: of “maximum” to SGD, "
        "mean over the seeds that both have. Diverged, in no mean: SGD (seed 5), lost (seed 0).",
        "",
    ]


def test_tables_have_no_empty_columns():
    found = summary.summarize([TrialCurves("a", "", [[0.5]]), TrialCurves("b", "", [[0.25]])])
    assert summary.markdown_table(found) == (
        "| recipe | trials | maximum (%) | last 10 % of epochs (%) |\n| :--- | ---: | ---: | ---: |\n"
        "| a | 1 | 50.00 | 50.00 |\n| b | 1 | 25.00 | 25.00 |\n\n\n"
    )
    grouped = summary.summarize([TrialCurves("a", "", [[0.5]], "1/2"), TrialCurves("a", "", [[0.25]], "1/4")])
    assert summary.markdown_table(grouped).startswith("| group | recipe | trials |")
    assert summary.text_table([], "title")


def test_a_row_is_json():
    found = summary.summarize(RECIPES, "SGD")
    row = json.loads(json.dumps(found[1].row(), allow_nan=False))
    assert row["recipe"] == "both | α"
    assert row["maximum"] == pytest.approx(0.935)
    assert row["maximum_half_width"] == pytest.approx(T2 * 0.005)
    assert row["final_difference"] == pytest.approx(0.025)
    assert row["baseline"] == "SGD"
    assert found[0].row()["diverged"] == [5]
    assert found[0].row()["last_difference"] is None
    assert found[2].row()["maximum"] is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"curves": [[0.5, 1.5]]}, r"curves of 'a' hold 1.5, expected values in \[0, 1\]"),
        ({"curves": [[-0.1]]}, "hold -0.1"),
        ({"curves": [[math.inf]]}, "hold inf"),
        ({"curves": [[0.5]], "seeds": [1, 2]}, r"seeds of 'a' are \[1, 2\], expected 1 different ones"),
        ({"curves": [[0.5], [0.5]], "seeds": [1, 1]}, "expected 2 different ones"),
        ({"curves": [[0.5, 0.5]], "epochs": 1}, "epochs of 'a' is 1, expected at least 2"),
        ({"curves": [], "epochs": 0}, "epochs of 'a' is 0, expected at least 1"),
    ],
)
def test_wrong_curves_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        TrialCurves("a", "", **arguments)


def test_wrong_arguments_are_refused():
    found = summary.summarize(RECIPES)
    with pytest.raises(ValueError, match=r"summarize: baseline is 'x', expected one of SGD, both \| α, lost"):
        summary.summarize(RECIPES, "x")
    with pytest.raises(ValueError, match="summarize: recipes has 'SGD' more than once"):
        summary.summarize([*RECIPES, RECIPES[0]])
    with pytest.raises(ValueError, match="text_table: statistics is 'mean', expected one of maximum, last, final"):
        summary.text_table(found, "", statistics=["mean"])
    with pytest.raises(ValueError, match="markdown_table: difference is 'mean'"):
        summary.markdown_table(found, difference="mean")
    with pytest.raises(ValueError, match="text_table: the column 'x' has 1 texts, expected 3"):
        summary.text_table(found, "", columns={"x": ["1"]})

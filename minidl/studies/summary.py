"""What the trials of several recipes reached: tables of means with confidence intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from minidl import tables
from minidl.trials import STATISTICS, WORDS, Estimate, TrialCurves, check_statistic, estimate, label, of_one_length

NOTHING = "–"


@dataclass(frozen=True)
class Summary:
    """What the trials of one recipe reached, over those that did not diverge.

    Attributes
    ----------
    name, note, group : str
        Of the recipe.
    trials : int
        All of them, also those that diverged.
    diverged : tuple of int
        The seeds of those that diverged.
    maximum : Estimate or None
        Mean over the trials of each trial's highest accuracy over the epochs; None if all trials diverged. The epoch is
        chosen by the accuracy that is told, so it is a little too good.
    last : Estimate or None
        Mean over the trials of each trial's mean over the last 10 % of its epochs: rounded to the nearest number of
        epochs, halves up (5 of 48, 2 of 15), and at least one.
    final : Estimate or None
        Mean over the trials of the accuracy after the last epoch.
    baseline : str
        The recipe that it is compared with; "" if with none.
    differences : dict of str to Estimate
        For "maximum", "last" and "final": the mean over the seeds that finished in both of this recipe's accuracy minus
        the baseline's, with its interval. Empty for the baseline, and where no seed finished in both.
    """

    name: str
    note: str
    group: str
    trials: int
    diverged: tuple[int, ...]
    maximum: Estimate | None
    last: Estimate | None
    final: Estimate | None
    baseline: str = ""
    differences: dict[str, Estimate] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """The group, if there is one, and the name."""
        return label(self.group, self.name)

    @property
    def counted(self) -> str:
        """How many trials the means are of: "5", or "3 of 5 (2 diverged)"."""
        if not self.diverged:
            return str(self.trials)
        return f"{self.trials - len(self.diverged)} of {self.trials} ({len(self.diverged)} diverged)"

    def row(self) -> dict[str, Any]:
        """Return it as JSON can hold it: accuracies as fractions, None for what there is not."""
        row: dict[str, Any] = {
            "recipe": self.name,
            "note": self.note,
            "group": self.group,
            "trials": self.trials,
            "diverged": list(self.diverged),
            "baseline": self.baseline,
        }
        for name in STATISTICS:
            for key, found in ((name, getattr(self, name)), (f"{name}_difference", self.differences.get(name))):
                row[key] = None if found is None else found.mean
                row[f"{key}_half_width"] = None if found is None else found.half_width
        return row


def summarize(recipes: Sequence[TrialCurves], baseline: str | None = None) -> list[Summary]:
    """Return for each recipe what its trials reached, and how it differs from the baseline.

    Trials that diverged have no part in any mean: they are counted and named. Which they are says `TrialCurves`.

    Parameters
    ----------
    recipes : sequence of TrialCurves
    baseline : str, optional
        The name of a recipe: the others of its group are compared with it, seed by seed. That is the sharper the more
        the trials of one seed have in common (initial weights, batches).

    Raises
    ------
    ValueError
        If no recipe is the baseline, or two of a group have one name.
    """
    labels = [recipe.label for recipe in recipes]
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        raise ValueError(f"summarize: recipes has {twice[0]!r} more than once, expected different names in a group")
    standards = {recipe.group: recipe for recipe in of_one_length(recipes) if recipe.name == baseline}
    if baseline is not None and not standards:
        raise ValueError(f"summarize: baseline is {baseline!r}, expected one of {', '.join(labels) or 'the recipes'}")
    return [_summary(recipe, standards.get(recipe.group)) for recipe in of_one_length(recipes)]


def text_table(
    summaries: Sequence[Summary],
    title: str,
    *,
    statistics: Sequence[str] = ("maximum", "last"),
    difference: str = "maximum",
    columns: Mapping[str, Sequence[str]] | None = None,
) -> str:
    """Return summaries as a table for the terminal.

    Accuracies are in percent, with half of their 95 % confidence interval; without where there is one trial.

    Parameters
    ----------
    summaries : sequence of Summary
        From `summarize`.
    title : str
        A line above the table.
    statistics : sequence of {"maximum", "last", "final"}, default ("maximum", "last")
        A column for each.
    difference : {"maximum", "last", "final"}, default "maximum"
        Which of them is compared with the baseline, in percentage points, if there is a baseline.
    columns : mapping of str to sequence of str, optional
        Further columns at the right, by their headings: a text for each summary (seconds, a paper's value).

    Raises
    ------
    ValueError
        If a statistic is not known, or a column has not one text for each summary.
    """
    headings, rows = _cells(summaries, statistics, difference, columns or {}, "text_table")
    return tables.as_text(title, headings, rows, caption=explanation(summaries, difference))


def markdown_table(
    summaries: Sequence[Summary],
    *,
    statistics: Sequence[str] = ("maximum", "last"),
    difference: str = "maximum",
    columns: Mapping[str, Sequence[str]] | None = None,
) -> str:
    """Return summaries as a table in Markdown and a line that explains it; the parameters are those of `text_table`."""
    headings, rows = _cells(summaries, statistics, difference, columns or {}, "markdown_table")
    words = sum(heading in ("group", "recipe", "settings") for heading in headings[:3])
    rule = [":---" if i < words else "---:" for i in range(len(headings))]
    lines = [_escaped(headings), rule, *map(_escaped, rows)]
    table = "".join("| " + " | ".join(line) + " |\n" for line in lines)
    return f"{table}\n{_escaped([explanation(summaries, difference)])[0]}\n"


def explanation(summaries: Sequence[Summary], difference: str = "maximum") -> str:
    """Return what has to be said below a table: what ± means, how seeds are paired, and which trials diverged."""
    told = []
    if any(e and e.half_width is not None for s in summaries for e in (s.maximum, *s.differences.values())):
        told.append("Mean over the trials ± half of its 95 % confidence interval (Student's t).")
    against = next((summary.baseline for summary in summaries if summary.differences), None)
    if against is not None:
        told.append(f"Difference: of “{WORDS[difference]}” to {against}, mean over the seeds that both have.")
    named = [
        f"{summary.label} (seed{'s' * (len(summary.diverged) > 1)} {', '.join(map(str, summary.diverged))})"
        for summary in summaries
        if summary.diverged
    ]
    if named:
        told.append(f"Diverged, in no mean: {', '.join(named)}.")
    return " ".join(told)


def _summary(recipe: TrialCurves, standard: TrialCurves | None) -> Summary:
    differences = {}
    if standard is not None and standard.name != recipe.name:
        for name in STATISTICS:
            ours, theirs = recipe.values(name), standard.values(name)
            found = estimate([ours[seed] - theirs[seed] for seed in ours if seed in theirs])
            if found is not None:
                differences[name] = found
    return Summary(
        recipe.name,
        recipe.note,
        recipe.group,
        len(recipe.curves),
        recipe.diverged,
        maximum=recipe.estimate("maximum"),
        last=recipe.estimate("last"),
        final=recipe.estimate("final"),
        baseline="" if standard is None else standard.name,
        differences=differences,
    )


def _cells(
    summaries: Sequence[Summary],
    statistics: Sequence[str],
    difference: str,
    columns: Mapping[str, Sequence[str]],
    who: str,
) -> tuple[list[str], list[list[str]]]:
    """Return the headings and the rows of a table, without columns that would be empty."""
    for statistic in statistics:
        check_statistic(statistic, who, "statistics")
    check_statistic(difference, who, "difference")
    for heading, texts in columns.items():
        if len(texts) != len(summaries):
            raise ValueError(
                f"{who}: the column {heading!r} has {len(texts)} texts, expected {len(summaries)}, one for each summary"
            )
    table: dict[str, list[str]] = {
        "group": [summary.group for summary in summaries],
        "recipe": [summary.name for summary in summaries],
        "settings": [summary.note for summary in summaries],
        "trials": [summary.counted for summary in summaries],
    }
    for optional in ("group", "settings"):
        if not any(table[optional]):
            del table[optional]
    for statistic in statistics:
        table[f"{WORDS[statistic]} (%)"] = [_percent(getattr(summary, statistic)) for summary in summaries]
    if any(summary.baseline for summary in summaries):
        table["difference"] = [_percent(s.differences.get(difference), sign=True) for s in summaries]
    table |= {heading: list(texts) for heading, texts in columns.items()}
    return list(table), [list(row) for row in zip(*table.values(), strict=True)]


def _percent(found: Estimate | None, *, sign: bool = False) -> str:
    return NOTHING if found is None else found.percent(sign=sign)


def _escaped(cells: Sequence[str]) -> list[str]:
    """Return the cells so that they stay cells of a table in Markdown."""
    return [" ".join(cell.replace("\\", "\\\\").replace("|", "\\|").split()) for cell in cells]

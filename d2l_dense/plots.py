"""Tables, and the figures that more than one page draws."""

import re
from collections.abc import Sequence

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

# Wong's (2011) colours, told apart by people who do not see red and green alike.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
GREY = "#767676"  # of an interval that includes zero
_NUMBER = re.compile(r"(?:<\s)?[-+−]?\d.{0,30}")  # "0.93 ± 0.01 (n = 3)", too


def use_style() -> None:
    """Set fonts, colours and sizes for the figures of a page."""
    plt.rc("figure", figsize=(6.4, 3.2), dpi=100)
    plt.rc("figure.constrained_layout", use=True)
    plt.rc("axes", prop_cycle=plt.cycler(color=COLOURS))
    plt.rc("axes.spines", top=False, right=False)
    plt.rc("legend", frameon=False)


def curve(axes: Axes, runs: Sequence[dict], key: str, **line: str) -> None:
    """Draw a quantity of the runs' histories: each run thinly, and their mean."""
    values = np.array([[epoch[key] for epoch in run["history"]] for run in runs])
    epochs = np.arange(1, values.shape[1] + 1)
    (mean,) = axes.plot(epochs, values.mean(axis=0), **line)
    style = {"color": mean.get_color(), "ls": mean.get_linestyle()}
    axes.plot(epochs, values.T, lw=0.6, alpha=0.6, **style)
    axes.set_xlabel("epoch")


def dots(axes: Axes, groups: dict) -> None:
    """Draw a row for each `records.Summary`: dots, and their mean and its interval."""
    for y, summary in enumerate(groups.values()):
        colour = GREY if summary.interval and summary.sign == 0 else COLOURS[0]
        places = [y] * len(summary.values)
        axes.plot(summary.values, places, "o", ms=4, mew=0, alpha=0.6, color=colour)
        if summary.interval:
            axes.plot(summary.interval, (y + 0.25, y + 0.25), lw=2, color=colour)
            axes.plot(summary.mean, y + 0.25, "D", ms=5, color=colour)
    axes.set_yticks(range(len(groups)), list(groups))
    axes.set_ylim(len(groups) - 0.5, -0.5)


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a Markdown table; columns of numbers, but the first, are set right."""
    cells = [[_cell(value) for value in row] for row in (head, *rows)]
    rules = []
    for _, *column in zip(*cells, strict=True):  # refuses rows of unequal lengths
        numbers = any(_NUMBER.fullmatch(cell) for cell in column)
        rules.append("---:" if numbers and rules else "---")
    cells.insert(1, rules)
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


def _cell(value: object) -> str:
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        return f"{value:,}"
    text = str(value).replace("|", r"\|").replace("\n", " ")
    return text.replace(" ", "\N{NO-BREAK SPACE}") if _NUMBER.fullmatch(text) else text

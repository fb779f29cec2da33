"""Tables, and the figures that more than one page draws."""

import re
from collections.abc import Mapping, Sequence
from numbers import Integral
from statistics import median
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

# Wong's (2011) colours, told apart by people who do not see red and green alike.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
GREY = "#767676"

_FIGURE = re.compile(r"[-+−]?\d.{0,30}$")  # "0.93 ± 0.01 (n = 3)" as well


def use_style() -> None:
    """Set fonts, colours and sizes for the figures of a page."""
    plt.rcParams.update(
        {
            "figure.figsize": (6.4, 3.2),
            "figure.dpi": 110,
            "figure.constrained_layout.use": True,
            "axes.prop_cycle": plt.cycler(color=COLOURS),
            "axes.spines.top": False,
            "axes.spines.right": False,
            "legend.frameon": False,
        }
    )


def curve(axes: Axes, runs: Sequence[dict[str, Any]], key: str, **line: str) -> None:
    """Draw one figure of the runs' histories: each run thinly, and their mean."""
    values = np.array([[epoch[key] for epoch in run["history"]] for run in runs])
    epochs = np.arange(1, values.shape[1] + 1)
    (mean,) = axes.plot(epochs, values.mean(axis=0), **line)
    thin = {"color": mean.get_color(), "ls": mean.get_linestyle(), "lw": 0.6}
    axes.plot(epochs, values.T, alpha=0.6, **thin)
    axes.set_xlabel("epoch")


def dots(axes: Axes, groups: Mapping[str, Any]) -> None:
    """Draw every run as a dot, and below the dots their mean and its 95 % interval.

    An interval that includes zero is grey: such a difference is undecided.

    Args:
        groups: for each name a `records.Summary`, of runs or of differences.
    """
    for y, summary in enumerate(groups.values()):
        undecided = summary.interval and summary.sign == 0
        colour = GREY if undecided else COLOURS[0]
        places = [y] * len(summary.values)
        axes.plot(summary.values, places, "o", ms=4, mew=0, alpha=0.6, color=colour)
        if summary.interval:
            axes.plot(summary.interval, (y + 0.25, y + 0.25), lw=2, color=colour)
            axes.plot(summary.mean, y + 0.25, "D", ms=5, color=colour)
    axes.set_yticks(range(len(groups)), list(groups))
    axes.set_ylim(len(groups) - 0.5, -0.5)


def stacked_bars(
    axes: Axes, parts: dict[str, Sequence[float]], names: Sequence[str], unit: str
) -> None:
    """Draw one horizontal bar a name, made of one coloured part a key."""
    left = np.zeros(len(names))
    for key, values in parts.items():
        axes.barh(names, values, left=left, label=key, edgecolor="white")
        left += np.array(values)
    axes.invert_yaxis()
    axes.set_xlabel(unit)


def spread(ratios: Sequence[float]) -> str:
    """The median of some ratios, and their range."""
    return f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a Markdown table: words to the left, figures to the right in one line.

    Whole numbers get thousands separators, and a bar in a cell is escaped. A column
    holds figures if a cell of it is one; the first column holds names.

    Raises:
        ValueError: if a row is longer or shorter than the head.
    """
    cells = [[_cell(value) for value in row] for row in (head, *rows)]
    rules = []
    for i, (_, *column) in enumerate(zip(*cells, strict=True)):
        figures = [bool(i and _FIGURE.match(cell)) for cell in column]
        rules.append("---:" if any(figures) else "---")
        for row, figure in zip(cells[1:], figures, strict=True):
            row[i] = row[i].replace(" ", "\N{NO-BREAK SPACE}") if figure else row[i]
    lines = [cells[0], rules, *cells[1:]]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(value: object) -> str:
    if isinstance(value, Integral) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value).replace("|", r"\|").replace("\n", " ")

"""Figures that more than one chapter draws."""

import re
from collections.abc import Sequence

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from d2l_dense.records import Record

# Wong's (2011) colours, told apart by people who do not see red and green alike.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")

_FIGURE = re.compile(r"[-+−]?\d.{0,30}$")  # "0.93 ± 0.01 (n = 3)" as well


def use_style() -> None:
    """Set fonts, colours and sizes for the figures of a chapter."""
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


def curve(axes: Axes, runs: Sequence[Record], key: str, **line: str) -> None:
    """Draw a figure of the history over the epochs: the mean over the seeds.

    Where there is more than one run, a band shows one sample standard deviation
    to either side.
    """
    values = np.array([[epoch[key] for epoch in run["history"]] for run in runs])
    epochs = np.arange(1, values.shape[1] + 1)
    mean = values.mean(axis=0)
    (drawn,) = axes.plot(epochs, mean, **line)
    if len(runs) > 1:
        std = values.std(axis=0, ddof=1)
        axes.fill_between(
            epochs, mean - std, mean + std, color=drawn.get_color(), alpha=0.2, lw=0
        )
    axes.set_xlabel("epoch")


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


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a Markdown table: words to the left, figures to the right in one line.

    Whole numbers get thousands separators. A column holds figures if a cell of it is
    one, with what belongs to it; the first column holds names.
    """
    columns = [[_cell(value) for value in column] for column in zip(*rows, strict=True)]
    rules = ["---"] * len(head)
    for i, cells in enumerate(columns):
        if i and any(_FIGURE.match(cell) for cell in cells):
            rules[i] = "---:"
            columns[i] = [
                cell.replace(" ", "\N{NO-BREAK SPACE}") if _FIGURE.match(cell) else cell
                for cell in cells
            ]
    lines = [head, rules, *zip(*columns, strict=True)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)

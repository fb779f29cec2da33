"""Figures that more than one chapter draws."""

from collections.abc import Sequence

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from d2l_dense.records import Record

# Wong's (2011) colours, told apart by people who do not see red and green alike.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


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
    """Return a Markdown table; whole numbers get thousands separators."""

    def cell(value: object) -> str:
        return f"{value:,}" if isinstance(value, int) else str(value)

    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(map(cell, line)) + " |" for line in lines)

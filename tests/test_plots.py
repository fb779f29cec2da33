"""d2l_dense/plots.py: tables, and what the figures of several chapters share."""

import matplotlib
import numpy as np
import pytest
from matplotlib import pyplot as plt

from d2l_dense import plots

matplotlib.use("agg")


@pytest.fixture
def axes():
    figure, axes = plt.subplots()
    yield axes
    plt.close(figure)


def test_words_go_left_and_figures_right_in_one_line():
    rows = [["a", "ReLU", 12345, "–"], ["b", "a sum", "0.93 ± 0.01 (n = 3)", "none"]]
    assert plots.table(["name", "what", "how many", "else"], rows).split("\n") == [
        "| name | what | how many | else |",
        "| --- | --- | ---: | --- |",
        "| a | ReLU | 12,345 | – |",
        "| b | a sum | 0.93\xa0±\xa00.01\xa0(n\xa0=\xa03) | none |",
    ]


@pytest.mark.parametrize(
    ("cell", "rule"),
    [
        ("-0.002", "---:"),
        ("+0.1", "---:"),
        ("−3", "---:"),
        ("56 × 56", "---:"),
        ("(1×1, 3×3) × 6", "---"),
        ("+0.0002 (95 % interval -0.0017 to +0.0020, n = 5): undecided", "---"),
        ("", "---"),
    ],
)
def test_a_column_of_figures_is_known_by_its_cells(cell, rule):
    table = plots.table(["name", "value"], [["a", "–"], ["b", cell]])
    assert table.split("\n")[1] == f"| --- | {rule} |"


def test_a_table_without_rows_is_its_head():
    assert plots.table(["a", "b"], []) == "| a | b |\n| --- | --- |"


def test_rows_of_unequal_length_are_refused():
    with pytest.raises(ValueError, match="zip"):
        plots.table(["a", "b"], [["1", "2"], ["3"]])


def test_a_curve_is_the_mean_with_a_band_of_one_deviation(axes):
    runs = [{"history": [{"loss": v}, {"loss": v + 1}]} for v in (1.0, 3.0)]
    plots.curve(axes, runs, "loss")
    np.testing.assert_allclose(axes.lines[0].get_xydata(), [[1, 2], [2, 3]])
    low, high = axes.collections[0].get_paths()[0].get_extents().intervaly
    assert (low, high) == pytest.approx((2 - 2**0.5, 3 + 2**0.5))


def test_one_run_has_no_band(axes):
    plots.curve(axes, [{"history": [{"loss": 1.0}]}], "loss")
    assert not axes.collections


def test_bars_are_stacked(axes):
    plots.stacked_bars(axes, {"old": [2, 3], "new": [1, 1]}, ["a", "b"], "channels")
    spans = [(bar.get_x(), bar.get_width()) for bar in axes.patches]
    assert spans == [(0, 2), (0, 3), (2, 1), (3, 1)]
    assert axes.get_xlabel() == "channels"

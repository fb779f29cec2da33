"""d2l_dense/plots.py, and book/who-reads-whom.html."""

import re
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from matplotlib import pyplot as plt

from d2l_dense import plots, records

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
    assert plots.table(["a", "b"], []) == "| a | b |\n| --- | --- |"
    assert "| --- | ---: |" in plots.table(["layer", "channels"], [[1, 64]])


def test_a_column_of_figures_is_known_by_its_cells():
    for cell in ("-0.002", "< 0.001", "−3", "56 × 56", "1.04 (0.90 to 1.10)"):
        assert "---:" in plots.table(["", ""], [["a", "–"], ["b", cell]])
    for cell in ("(1×1, 3×3) × 6", "+0.2 (95 % interval of several words): no", ""):
        assert "---:" not in plots.table(["", ""], [["a", "–"], ["b", cell]])


def test_a_cell_is_shown_as_it_is():
    row = [True, np.True_, np.int64(12345), "P(a|b)", "two\nlines", None]
    cells = plots.table([*"abcdef"], [row]).split("\n")[-1]
    assert cells == r"| True | True | 12,345 | P(a\|b) | two lines | None |"


def test_rows_of_another_length_than_the_head_are_refused():
    with pytest.raises(ValueError, match="zip"):
        plots.table(["a", "b"], [["1", "2", "3"]])


def test_a_curve_is_every_run_and_their_mean(axes):
    runs = [{"history": [{"loss": v}, {"loss": v + 1}]} for v in (1.0, 3.0)]
    plots.curve(axes, runs, "loss", label="ours", ls="--")
    mean, *thin = axes.lines
    np.testing.assert_allclose(mean.get_xydata(), [[1, 2], [2, 3]])
    assert [line.get_ydata().tolist() for line in thin] == [[1, 2], [3, 4]]
    assert {line.get_color() for line in axes.lines} == {mean.get_color()}
    assert len(axes.get_legend_handles_labels()[1]) == 1


def test_dots_show_all_runs_with_mean_and_interval(axes):
    values = {"sure": [0.1, 0.2, 0.15], "undecided": [-0.1, 0.2], "one": [0.3]}
    groups = {name: records.Summary.of(found) for name, found in values.items()}
    plots.dots(axes, groups)
    shown = [tuple(line.get_xdata()) for line in axes.lines]
    for summary in groups.values():
        assert tuple(summary.values) in shown
        assert summary.interval is None or summary.interval in shown
    assert [text.get_text() for text in axes.get_yticklabels()] == list(groups)
    assert [line.get_color() == plots.GREY for line in axes.lines].count(True) == 3


def test_who_reads_whom_is_well_formed_and_says_what_each_layer_reads():
    text = (Path(__file__).parents[1] / "book" / "who-reads-whom.html").read_text()
    dense, residual = ElementTree.fromstring(text).findall("svg")
    for i, layer in enumerate(dense.findall("g"), start=1):
        says = f"Layer {i} reads {32 + 32 * i} channels from {i} source"
        assert layer.get("aria-label").startswith(says) and layer.get("tabindex") == "0"
        assert len(layer.findall("path")) == i
    assert [len(layer.findall("path")) for layer in residual.findall("g")] == [1] * i
    assert not re.search(r"<script|https?:|url\(", text)

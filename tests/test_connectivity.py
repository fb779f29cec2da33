"""d2l_dense/connectivity.py: the figure that shows who reads whom."""

import re
from xml.etree import ElementTree

import pytest

from d2l_dense.connectivity import who_reads_whom


def drawings(**arguments):
    root = ElementTree.fromstring(
        who_reads_whom(**arguments)
        .replace(" checked>", ">")
        .replace("><label", "/><label")
    )
    return {svg.get("class"): svg for svg in root.findall("svg")}


@pytest.mark.parametrize("layers", [1, 4])
def test_a_layer_reads_all_before_it_or_one_sum(layers):
    found = drawings(channels=8, growth_rate=4, layers=layers)
    said = [g.get("aria-label") for g in found["dense"].findall("g")]
    for i, text in enumerate(said, start=1):
        read = 8 + 4 * (i - 1)
        assert text == f"Layer {i} reads {read} channels from {i} sources, adds 4."
    assert len(said) == layers
    arcs = [len(g.findall("path")) for g in found["dense"].findall("g")]
    assert arcs == list(range(1, layers + 1))
    residual = found["res"].findall("g")
    assert [len(g.findall("path")) for g in residual] == [1] * layers
    assert all("one sum of 8 channels" in g.get("aria-label") for g in residual)


def test_a_bar_is_as_high_as_its_channels_and_within_the_drawing():
    svg = drawings()["dense"]
    heights = [
        sum(
            float(r.get("height"))
            for r in g.findall("rect")
            if r.get("class") != "target"
        )
        for g in svg.findall("g")
    ]
    assert heights == [0.5 * (64 + 32 * i) for i in range(1, 5)]
    _, _, width, height = map(float, svg.get("viewBox").split())
    for rect in svg.iter("rect"):
        x, y, w, h = (float(rect.get(key)) for key in ("x", "y", "width", "height"))
        assert x >= 0 and x + w <= width and y >= 0 and y + h <= height


def test_it_needs_no_script_and_no_other_host():
    assert not re.search(r"<script|https?:|url\(", who_reads_whom())

"""d2l_dense/connectivity.py: the figure that shows who reads whom."""

import re
from xml.etree import ElementTree

import pytest

from d2l_dense.connectivity import heat_maps, who_reads_whom


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
        sources = "1 source" if i == 1 else f"{i} sources"
        assert text == f"Layer {i} reads {read} channels from {sources} and adds 4."
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


def luminance(colour):
    """WCAG 2.2, relative luminance."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    parts = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts]
    return sum(a * b for a, b in zip((0.2126, 0.7152, 0.0722), parts, strict=True))


NAN = float("nan")
TABLES = [[[1, 0.8, 0.5], [NAN, 1.2, 1.25], [NAN, NAN, 1.251]], [[1.0]]]


def test_a_heat_map_has_a_cell_a_source_and_says_what_is_read_most_and_least():
    root = ElementTree.fromstring(heat_maps(TABLES, (0.5, 1.5)))
    first, second = root.findall("svg")
    readers = first.findall("g")
    said = [" ".join(t.text for t in g.findall("text[@class='says']")) for g in readers]
    assert said == [
        "Layer 1 reads the input alone.",
        "Layer 2 reads layer 1 most (1.20), input least (0.80).",
        "What follows reads layer 2 most (1.25), input least (0.50).",
    ]
    assert readers[2].get("aria-label") == (
        "What follows: input 0.50, layer 1 1.25, layer 2 1.25"
    )
    cells = [len(g.findall("rect")) - 1 for g in readers]  # one is the frame
    assert cells == [1, 2, 3]
    assert [g.get("aria-label") for g in second.findall("g")] == [
        "What follows: input 1.00"
    ]


def test_a_heat_map_is_dark_where_little_is_read_and_legible_everywhere():
    root = ElementTree.fromstring(heat_maps(TABLES, (0.5, 1.5)))
    last = root.find("svg").findall("g")[2]
    fills = [r.get("fill") for r in last.findall("rect") if r.get("fill")]
    inks = [t.get("style") for t in last.findall("text") if t.get("style")]
    assert fills[0] == "#00224e" and inks == ["fill: white"] + ["fill: black"] * 2
    ramp = [[[0.5 + i / 100] for i in range(101)]]
    cells = ElementTree.fromstring(heat_maps(ramp, (0.5, 1.5))).find("svg/g")
    fills = [r.get("fill") for r in cells.findall("rect") if r.get("fill")]
    inks = [t.get("style") for t in cells.findall("text") if t.get("style")]
    for fill, ink in zip(fills, inks, strict=True):
        light = luminance(fill) + 0.05
        contrast = {"fill: white": 1.05 / light, "fill: black": light / 0.05}
        assert contrast[ink] >= 4.5
    for svg in root.findall("svg"):
        _, _, width, height = map(float, svg.get("viewBox").split())
        for rect in svg.iter("rect"):
            x, y, w, h = (float(rect.get(key)) for key in ("x", "y", "width", "height"))
            assert x >= 0 and x + w <= width and y >= 0 and y + h <= height


@pytest.mark.parametrize("drawn", [who_reads_whom(), heat_maps(TABLES, (0, 2))])
def test_it_needs_no_script_and_no_other_host(drawn):
    assert not re.search(r"<script|https?:|url\(", drawn)

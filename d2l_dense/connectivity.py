"""Figures that answer to the pointer and to the keyboard, without a script.

They are HTML with drawings in SVG: who reads whom in a block, and how strongly.
"""

from collections.abc import Sequence
from math import isnan

from matplotlib import colormaps, colors

from d2l_dense import cost
from d2l_dense.plots import COLOURS

_OLD, _NEW, _READS, _MIXED = *COLOURS[:3], "#8A6A8F"
_STYLE = f"""
.who-reads {{ color-scheme: light; }}
.who-reads input {{ accent-color: {_OLD}; }}
.who-reads label {{ margin: 0 1.2em 0 0.3em; }}
.who-reads svg {{ display: block; width: 100%; max-width: 32rem; height: auto; }}
.who-reads text {{ fill: currentColor; font-size: 12px; text-anchor: middle; }}
.who-reads .arc {{ fill: none; stroke: currentColor; opacity: 0.35; }}
.who-reads .arc, .who-reads .says {{ pointer-events: none; }}
.who-reads .says {{ opacity: 0; font-size: 13px; }}
.who-reads .layer:is(:hover, :focus) .says {{ opacity: 1; }}
.who-reads .layer:is(:hover, :focus) .arc {{
  stroke: {_READS}; stroke-width: 2.5; opacity: 1; }}
.who-reads .layer:focus {{ outline: none; }}
.who-reads .layer:focus-visible .target {{ stroke: currentColor; }}
.who-reads .target {{ fill: transparent; }}
#who-dense:not(:checked) ~ .dense, #who-res:not(:checked) ~ .res {{ display: none; }}
"""
# Pixels: from layer to layer, the ends of the arcs, the foot of the bars.
_STEP, _ARCS, _BASE = 84, 84, 190


def who_reads_whom(channels: int = 64, growth_rate: int = 32, layers: int = 4) -> str:
    """Return HTML with two drawings of a block, ResNet's and DenseNet's.

    A click chooses the drawing; the layer under the pointer or with the focus
    shows what it reads. It needs no script; printed, it shows the dense block.

    Chapter: "From addition to concatenation".
    """
    dense, residual = [], []
    for i in range(1, layers + 1):
        read = cost.channels(channels, i - 1, growth_rate)
        says = f"Layer {i} reads {read} channels from {i} source{'s' * (i > 1)}"
        says += f" and adds {growth_rate}"
        parts = [(_OLD, read), (_NEW, growth_rate)]
        dense.append(_layer(i, layers, range(i), parts, says))
        says = f"Layer {i} reads one sum of {channels} channels, and is added to it"
        residual.append(_layer(i, layers, [i - 1], [(_MIXED, channels)], says))
    start = _bars(0, [(_OLD, channels)]) + _label(0, "input", channels)
    drawings = {"dense": start + "".join(dense), "res": start + "".join(residual)}
    names = {"dense": "DenseNet", "res": "ResNet"}
    buttons = "".join(
        f"<input type='radio' name='who' id='who-{key}'{' checked' * (key == 'dense')}>"
        f"<label for='who-{key}'>{name}</label>"
        for key, name in names.items()
    )
    width = (layers + 1) * _STEP
    pictures = "".join(
        f"<svg class='{key}' viewBox='0 0 {width} {_BASE + 62}' role='group' "
        f"aria-label='A block of {layers} layers, as in a {names[key]}'>{drawn}</svg>"
        for key, drawn in drawings.items()
    )
    return f"<div class='who-reads'><style>{_STYLE}</style>{buttons}{pictures}</div>"


_CELL, _LEFT, _TOP = 27, 46, 18  # of a heat map, in pixels
_HEAT_STYLE = """
.heat-maps { display: grid; gap: 0.5rem;
  grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); }
.heat-maps svg { overflow: visible; max-width: 15rem; }
.heat-maps text { fill: currentColor; font-size: 10px; text-anchor: middle; }
.heat-maps .name { text-anchor: end; }
.heat-maps .says { opacity: 0; pointer-events: none; font-size: 9px; }
.heat-maps .frame { fill: transparent; stroke-width: 2.5; }
.heat-maps .reader:focus { outline: none; }
.heat-maps .reader:is(:hover, :focus) .says { opacity: 1; }
.heat-maps .reader:is(:hover, :focus) .frame { stroke: currentColor; }
"""


def heat_maps(
    tables: Sequence[Sequence[Sequence[float]]], limits: tuple[float, float]
) -> str:
    """Return HTML with a heat map a block: how strongly a reader reads a source.

    Each cell shows its value; the reader under the pointer or with the focus says
    what it reads most and least.

    Args:
        tables: one a block, (source, reader), with NaN where nothing is read. The
            first source is the block's input, the last reader what follows it.
        limits: values of the darkest and of the brightest colour.

    Chapter: "What does a layer read?".
    """
    maps = []
    for number, table in enumerate(tables, start=1):
        size = len(table)
        sources = ["input", *(f"layer {i}" for i in range(1, size))]
        names = "".join(
            f"<text class='name' x='{_LEFT - 5}' y='{_row(i) + 17}'>{name}</text>"
            for i, name in enumerate(sources)
        )
        columns = "".join(
            _reader(j, size, dict(zip(sources, column, strict=True)), limits)
            for j, column in enumerate(zip(*table, strict=True))
        )
        wide, tall = _LEFT + size * _CELL + 12, _row(size) + 46
        maps.append(
            f"<svg viewBox='0 0 {wide} {tall}' role='group' "
            f"aria-label='Block {number}: what each reader reads'>"
            f"<text x='{wide / 2}' y='12'>block {number}</text>{names}{columns}</svg>"
        )
    drawn = "".join(maps)
    return f"<div class='heat-maps'><style>{_HEAT_STYLE}</style>{drawn}</div>"


def _reader(j, size, values, limits):
    """A column of a heat map: NaN stays empty."""
    x, last = _LEFT + j * _CELL, j == size - 1
    values = {name: value for name, value in values.items() if not isnan(value)}
    cells = ""
    for i, value in enumerate(values.values()):
        share = (value - limits[0]) / (limits[1] - limits[0])
        fill = colors.to_hex(colormaps["cividis"](share))
        ink = "white" if share < 0.47 else "black"  # cividis: 4.5 to 1 or better
        cells += (
            f"<rect x='{x}' y='{_row(i)}' width='{_CELL}' height='{_CELL}' "
            f"fill='{fill}'/><text x='{x + _CELL / 2}' y='{_row(i) + 17}' "
            f"style='fill: {ink}'>{value:.2f}</text>"
        )
    who = "What follows" if last else f"Layer {j + 1}"
    most, least = (pick(values, key=values.get) for pick in (max, min))
    says = [
        f"{who} reads {most} most ({values[most]:.2f}),",
        f"{least} least ({values[least]:.2f}).",
    ]
    if len(values) == 1:
        says = [f"{who} reads the {most} alone."]
    lines = "".join(
        f"<text class='says' x='{_LEFT + size * _CELL / 2 - 16}' "
        f"y='{_row(size) + 29 + 13 * i}'>{line}</text>"
        for i, line in enumerate(says)
    )
    listed = ", ".join(f"{name} {value:.2f}" for name, value in values.items())
    return (
        f"<g class='reader' tabindex='0' role='img' aria-label='{who}: {listed}'>"
        f"{cells}<text x='{x + _CELL / 2}' y='{_row(size) + 13}'>"
        f"{'after' if last else j + 1}</text>"
        f"<rect class='frame' x='{x + 1}' y='{_TOP + 1}' width='{_CELL - 2}' "
        f"height='{size * _CELL - 2}'/>{lines}</g>"
    )


def _row(i):
    return _TOP + i * _CELL


def _layer(i, layers, sources, parts, says):
    arcs = "".join(
        f"<path class='arc' d='M{_x(j)} {_ARCS} Q{(_x(i) + _x(j)) / 2} "
        f"{_ARCS - 24 * (i - j)} {_x(i)} {_ARCS}'/>"
        for j in sources
    )
    target = (
        f"<rect class='target' x='{_x(i) - _STEP / 2}' y='4' width='{_STEP}' "
        f"height='{_BASE + 34}'/>"
    )
    middle = (layers + 1) * _STEP / 2
    text = f"<text class='says' x='{middle}' y='{_BASE + 56}'>{says}.</text>"
    out = sum(size for _, size in parts)
    return (
        f"<g class='layer' tabindex='0' role='img' aria-label='{says}.'>{target}"
        f"{arcs}{_bars(i, parts)}{_label(i, f'layer {i}', out)}{text}</g>"
    )


def _x(i):
    return i * _STEP + _STEP / 2


def _bars(i, parts):
    drawn, y = "", float(_BASE)
    for colour, size in parts:
        y -= size / 2
        place = f"x='{_x(i) - 14}' y='{y}'"
        drawn += f"<rect {place} width='28' height='{size / 2}' fill='{colour}'/>"
    return drawn


def _label(i, name, out):
    return (
        f"<text x='{_x(i)}' y='{_BASE + 15}'>{name}</text>"
        f"<text x='{_x(i)}' y='{_BASE + 31}'>{out}</text>"
    )

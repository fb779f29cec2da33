"""The figure that shows who reads whom, in a residual and in a dense block."""

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
        says = f"Layer {i} reads {read} channels from {i} sources, adds {growth_rate}"
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
        tall = size * 0.5
        y -= tall
        place = f"x='{_x(i) - 14}' y='{y}'"
        drawn += f"<rect {place} width='28' height='{tall}' fill='{colour}'/>"
    return drawn


def _label(i, name, out):
    return (
        f"<text x='{_x(i)}' y='{_BASE + 15}'>{name}</text>"
        f"<text x='{_x(i)}' y='{_BASE + 31}'>{out}</text>"
    )

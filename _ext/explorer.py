"""The directive `explorer`: the knobs, what view.js reads, and the static table.

All numbers come from `d2l_dense.cost` when the book is built; the browser counts
on from there by _static/explorer/cost.js. Without JavaScript the table remains.
"""

import json
from html import escape
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

FILES = "_static/explorer/"
MIB = 2**20
BATCH = 32  # of the table, and of the page when it opens
GIGABYTES = 4, 8, 16, 24, 80
BUDGETS = [size * 10**9 for size in GIGABYTES]
CHAPTER = "The chapter's model"
# Arguments that cost nothing.
NO_KNOB = {"lr", "momentum", "weight_decay"}
# Kept so small that every number of bytes an image needs stays below 2 ** 53.
LIMITS = {
    "growth_rate": (1, 64),
    "blocks": (1, 6),
    "layers": (1, 64),
    "num_channels": (1, 256),
    "in_channels": (1, 16),
    "num_classes": (1, 1000),
    "side": (1, 512),
    "batch": (1, 4096),
}
LABELS = {
    "growth_rate": "growth rate (k)",
    "num_channels": "channels of the stem",
    "in_channels": "channels of the image",
    "num_classes": "classes",
    "side": "side of the image, pixels",
    "batch": "images a batch",
    "bottleneck": "bottleneck, times k",
    "stem": "stem",
    "pool": "pooling of the transitions",
    "memory": "memory strategy",
    "dtype": "activations",
}
TYPED = {"side", "batch", "num_classes"}  # a slider would be too coarse


def choices() -> dict[str, list[str]]:
    """What each select offers, and "bias" allows in an address."""
    from d2l_dense import cost
    from d2l_dense.pools import POOLS
    from d2l_dense.stems import STEMS

    return {
        "bottleneck": ["none", *map(str, range(1, 9))],
        "stem": list(STEMS),
        "pool": list(POOLS),
        "memory": list(cost.MEMORY),
        "dtype": ["fp32", "half"],
        "bias": ["True", "False"],
    }


def defaults() -> dict[str, Any]:
    """The arguments of `DenseNet` that a knob turns, with their defaults."""
    from d2l_dense import cost

    return {k: value for k, value in cost.DEFAULTS.items() if k not in NO_KNOB}


def presets() -> dict[str, dict[str, Any]]:
    """The chapter's model and `VARIANTS`, each with the side of its images."""
    from d2l_dense import VARIANTS

    found: dict[str, dict[str, Any]] = {CHAPTER: {"side": 96}}
    for name, config in VARIANTS.items():
        found[name] = {**config, "side": 32 if config.get("stem") else 224}
    return found


def data() -> dict[str, Any]:
    """What view.js reads."""
    return {
        "defaults": defaults(),
        "limits": LIMITS,
        "choices": choices(),
        "presets": presets(),
        "budgets": BUDGETS,
        "start": {"preset": CHAPTER, "batch": BATCH, "dtype": "fp32"},
    }


def _slider(name: str, label: str, low: int, high: int, step: str = "1") -> str:
    return (
        f"<label>{label} <output></output><input type='range' name='{name}'"
        f" min='{low if step == '1' else step}' max='{high}' step='{step}'></label>"
    )


def _select(name: str, label: str, options: list[str], first: str = "") -> str:
    items = first + "".join(f"<option>{escape(one)}</option>" for one in options)
    return f"<label>{label}<select name='{name}'>{items}</select></label>"


def knobs() -> str:
    """The form, in the order of the network."""
    offered = choices()
    own = "<option value=''>(your own)</option>"
    parts = [_select("preset", "preset", list(presets()), own)]
    parts += [_slider("growth_rate", LABELS["growth_rate"], *LIMITS["growth_rate"])]
    parts += [_slider("blocks", "dense blocks", *LIMITS["blocks"])]
    for i in range(1, LIMITS["blocks"][1] + 1):
        parts += [_slider(f"layers{i}", f"layers of block {i}", *LIMITS["layers"])]
    parts += [_slider("compression", "compression (θ)", 0, 1, "0.01")]
    for name, label in LABELS.items():
        if name in offered:
            parts.append(_select(name, label, offered[name]))
        elif name in TYPED:
            low, high = LIMITS[name]
            parts.append(
                f"<label>{label}<input type='number' name='{name}' min='{low}'"
                f" max='{high}' required></label>"
            )
        elif name != "growth_rate":
            parts.append(_slider(name, label, *LIMITS[name]))
    parts.append("<label><input type='checkbox' name='bias'> biases</label>")
    return f"<form class='knobs' aria-label='The knobs'>{''.join(parts)}</form>"


def figures() -> str:
    """Empty places for what view.js writes."""
    shown = {
        "parameters": "parameters",
        "macs": "MACs an image",
        "activations": "activations a plain batch keeps",
        "peak": "peak of a training step",
    }
    items = "".join(
        f"<div><dt>{label}</dt><dd data-part='{name}'></dd></div>"
        for name, label in shown.items()
    )
    parts = ["parameters", "gradients", "optimizer", "activations", "inputs"]
    inside = ", ".join(f"{p} <span data-part='peak-{p}'></span>" for p in parts)
    rows = ""
    for memory in choices()["memory"]:
        cells = f"<td data-part='peak-{memory}'></td>" + "".join(
            f"<td data-part='largest-{memory}-{i}'></td>" for i in range(len(BUDGETS))
        )
        rows += f"<tr><th scope='row'>{memory}</th>{cells}</tr>"
    head = ["memory", "peak", *(f"{size} GB" for size in GIGABYTES)]
    table = _table("The largest batch, by memory strategy", head, rows)
    return (
        f"<dl class='figures'>{items}</dl><div>The peak is reached in"
        f" <b data-part='stage'></b>: {inside}.</div>{table}"
    )


def _table(caption: str, head: list[str], rows: str) -> str:
    cells = "".join(f"<th scope='col'>{escape(one)}</th>" for one in head)
    return (
        f"<div class='explorer-table' tabindex='0' role='region'"
        f" aria-label='{escape(caption)}'><table><caption>{escape(caption)}</caption>"
        f"<thead><tr>{cells}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def comparison() -> str:
    """The static table: every preset, then the ResNets."""
    from d2l_dense import cost

    entries = []
    for name, preset in presets().items():
        config = {k: v for k, v in preset.items() if k != "side"}
        image = config.get("in_channels", 1), preset["side"], preset["side"]
        peak = cost.peak(config, (BATCH, *image)).total
        largest = [cost.largest_batch(config, image, budget) for budget in BUDGETS]
        found = cost.summary(config, (1, *image))
        entries.append((name, image[1], found, [peak, *largest]))
    for depth in cost.RESNETS:
        found = cost.resnet(depth, (1, 3, 224, 224))
        entries.append((f"ResNet-{depth}", 224, found, []))
    rows = ""
    for name, side, found, training in entries:
        raw = [found.parameters, found.macs, found.activation_bytes, *training]
        text = [f"{value:,}" for value in raw]
        text[1] = f"{raw[1] / 1e6:,.0f}"
        for i in (2, 3):
            if i < len(raw):
                text[i] = f"{raw[i] / MIB:,.1f}"
        cells = "".join(
            f"<td data-value='{r}'>{t}</td>" for r, t in zip(raw, text, strict=True)
        )
        cells += "<td>–</td>" * (3 + 1 + len(BUDGETS) - len(raw))
        rows += f"<tr><th scope='row'>{escape(name)}</th><td>{side}</td>{cells}</tr>"
    head = ["network", "side", "parameters", "MACs an image, millions"]
    head += ["activations an image, MiB", f"peak, batch {BATCH}, MiB"]
    head += [f"batch in {size} GB" for size in GIGABYTES]
    return _table("The presets, plain, and ResNets to compare with", head, rows)


def markup() -> str:
    """The Explorer, hidden until view.js runs, and the table below it."""
    script = json.dumps(data()).replace("<", r"\u003c")
    return f"""<script type="application/json" id="explorer-data">{script}</script>
<div id="explorer" hidden>{knobs()}
<div><button type="button" data-part="reset">Reset</button></div>
<div class="error" data-part="error" role="alert" hidden></div>
<div data-part="results">
<svg data-part="drawing" role="group" aria-label="The layers of the network"></svg>
<div class="about" data-part="layer"></div>
{figures()}
<div><code data-part="python"></code>
<button type="button" data-part="copy">Copy as Python</button>
<span data-part="copied" role="status"></span></div>
</div>
<div class="spoken" data-part="status" role="status" aria-live="polite"></div>
</div>
<noscript><div>The knobs need JavaScript; the table shows the presets.</div></noscript>
{comparison()}"""


class Explorer(SphinxDirective):
    """The Explorer, once on a page."""

    def run(self) -> list[nodes.Node]:
        self.env.metadata[self.env.docname]["explorer"] = "yes"
        return [nodes.raw("", markup(), format="html")]


def only_here(app: Sphinx, pagename: str, templatename: str, context, doctree) -> None:
    """Jupyter Book loads all of _static on every page; ours belongs on one."""
    wanted = "explorer" in app.env.metadata.get(pagename, {})
    for key in ("script_files", "css_files"):
        ours = [f for f in context[key] if FILES in str(f.filename)]
        others = [f for f in context[key] if f not in ours]
        # cost.js before view.js, and both at the end of the head: deferred.
        ours.sort(key=lambda file: str(file.filename))
        context[key] = others + ours * wanted
    for file in context["script_files"]:
        if FILES in str(file.filename):
            file.attributes["defer"] = "defer"


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("explorer", Explorer)
    app.connect("html-page-context", only_here)
    return {"version": "1", "parallel_read_safe": True}

"""What the Explorer's page shows before its script runs, counted by `d2l_dense`."""

import torch
import torchvision
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from d2l_dense import VARIANTS, cost
from d2l_dense.blocks import POOLINGS, STEMS
from d2l_dense.recompute import MEMORY

BATCH = 32  # of the table, and of the page when it opens
GIGABYTES = 4, 8, 16, 24, 80
BUDGETS = [size * 10**9 for size in GIGABYTES]
CHAPTER = "The chapter's model"
RESNETS = 18, 34, 50, 101, 152
# Kept so small that every number of bytes an image needs stays below 2 ** 53. The batch
# goes as far as the table of largest batches does, for the smallest network.
LIMITS = {
    "growth_rate": (1, 64),
    "blocks": (1, 6),
    "layers": (1, 64),
    "num_channels": (1, 256),
    "in_channels": (1, 16),
    "num_classes": (1, 1000),
    "side": (1, 512),
    "batch": (1, 10**10),
}
# What each select offers, and "bias" and "bars" allow in an address.
CHOICES = {
    "bottleneck": ["none", *map(str, range(1, 9))],
    "stem": list(STEMS),
    "pool": list(POOLINGS),
    "memory": list(MEMORY),
    "dtype": ["fp32", "half"],
    "bias": ["yes", "no"],
    "bars": ["channels", "parameters", "macs", "activations"],
}
# The arguments of `DenseNet` that a knob turns: those that cost something.
FREE = "lr", "momentum", "weight_decay"
DEFAULTS = {k: value for k, value in cost.DEFAULTS.items() if k not in FREE}
PRESETS = {CHAPTER: {"side": 96}}
for _name, _config in VARIANTS.items():
    PRESETS[_name] = {**_config, "side": 32 if "stem" in _config else 224}
# An address each, and what explains the difference that it shows.
COMPARISONS = {
    "121 against ResNet-50": (
        "preset=121&baseline=ResNet-50&bars=activations",
        "A layer of 121 adds only k channels, so it has few weights and MACs. But "
        "autograd keeps all that a layer reads, once more for every layer: more bytes "
        "than in a residual network, which adds instead of concatenating.",
    ),
    "264 without its bottlenecks": (
        "preset=264&bottleneck=none&baseline=264&bars=macs",
        "Without a bottleneck the 3×3 convolution reads all channels and not only 4k: "
        "its nine weights a channel make parameters and MACs rise. What a plain step "
        "keeps falls: the outputs of bottlenecks and their normalization are gone.",
    ),
    "121, shared against plain": (
        "preset=121&memory=shared&baseline=121&bars=activations",
        "The same network, so the same parameters and MACs. The outputs of "
        "concatenation and normalization are computed again in the backward pass "
        "instead of kept: the peak falls, and the batch may grow.",
    ),
}


def page():
    """What the template reads."""
    others = list(resnets())
    data = {
        "defaults": DEFAULTS,
        "limits": LIMITS,
        "choices": CHOICES,
        "presets": PRESETS,
        "resnets": {name: [side, *counts] for name, side, counts in others},
        "comparisons": COMPARISONS,
        "budgets": BUDGETS,
        "start": {"batch": BATCH, "dtype": "fp32", "bars": "channels"},
        "chapter": CHAPTER,
    }
    return {
        "data": data,
        "budgets": [f"{size} GB" for size in GIGABYTES],
        "batches": [f"batch in {size} GB" for size in GIGABYTES],
        "rows": [*presets(), *others],
    }


def presets():
    """A row of the table for every preset: name, side, and what it costs."""
    for name, preset in PRESETS.items():
        config = {k: v for k, v in preset.items() if k != "side"}
        side = preset["side"]
        image = config.get("in_channels", 1), side, side
        counts = cost.summary(config, (1, *image))[1:]
        peak = cost.peak(config, (BATCH, *image)).total
        batches = [cost.largest_batch(config, image, budget) for budget in BUDGETS]
        yield name, side, [*counts, peak, *batches]


def resnets():
    """The same for torchvision's ResNets, which have no closed form here."""
    for depth in RESNETS:
        with torch.device("meta"):
            net = getattr(torchvision.models, f"resnet{depth}")()
        yield f"ResNet-{depth}", 224, counted(net, (1, 3, 224, 224))


def counted(net, shape):
    """Parameters, MACs, and bytes of activations that autograd keeps, of any network.

    The network is on the meta device, where nothing is computed.
    """
    X = torch.empty(shape, device="meta")
    given = {t.untyped_storage()._cdata for t in (X, *net.parameters())}
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage._cdata not in given and tensor.ndim > 1:  # not BN's statistics
            kept[storage._cdata] = storage.nbytes()
        return tensor

    hooks = saved_tensors_hooks(pack, lambda tensor: tensor)
    with FlopCounterMode(display=False) as counter, hooks:
        Y = net(X)  # keeps the graph, and so the storages
    parameters = sum(p.numel() for p in net.parameters())
    del Y
    return [parameters, counter.get_total_flops() // 2, sum(kept.values())]

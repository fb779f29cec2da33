"""Exercise 3: what a training step needs of memory and of time, by strategy.

Each arm is a network and a batch. For every strategy, and for what else may help:
the accounted peak, the measured one, and the seconds of a step. They take turns, so
that whatever else slows the machine slows all of them. All but `channels_first` lay
images out channels last. `depth` is one block, ever deeper.
"""

import time
from collections.abc import Callable
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

from d2l_dense import VARIANTS, DenseNet, cost, memory, records
from d2l_dense.allocator import keep_freed_memory
from d2l_dense.engine import best_precision, place
from experiments.provenance import provenance
from experiments.sparse import SparseDenseNet
from experiments.step_profile import shares
from experiments.training import Run

NETWORKS: dict[str, tuple[dict[str, Any], list[int]]] = {
    "chapter_96": ({}, [128, 1, 96, 96]),
    "chapter_224": ({}, [128, 1, 224, 224]),
    "densenet_121": (VARIANTS["121"], [16, 3, 224, 224]),
    "bc_100_12": (VARIANTS["BC-100-12"], [64, 3, 32, 32]),
}
WARM_UP = 1  # a turn that is not counted
BLOCK = {"stem": "cifar", "num_channels": 24, "growth_rate": 12, "bottleneck": 4}
ARMS: dict[str, dict[str, Any]] = {
    arm: {"model": model, "batch": shape, "turns": 14}
    for arm, (model, shape) in NETWORKS.items()
}
ARMS["chapter_224"]["turns"] = 12  # each takes long
# A host moves the cores of a virtual machine within minutes, and with them the caches.
# Twice as many turns see more of that.
ARMS["densenet_121"]["turns"] = 28
ARMS["depth"] = {"model": BLOCK, "batch": [16, 3, 16, 16], "depths": [2, 4, 8, 16, 24]}


def execute(run: Run) -> records.Record:
    """Measure one arm; return its record."""
    arm, device = ARMS[run.arm], torch.device(run.device)
    origin = provenance(device, "32-true")  # of all but what is named bf16
    keep_freed_memory()  # as the trainer does
    measure = _depths if "depths" in arm else _strategies
    figures, turns = measure(arm, device)
    return run.record(arm, origin, turns, figures=figures)


def _strategies(arm: dict[str, Any], device: torch.device) -> tuple[Any, Any]:
    """Bytes and seconds by strategy, and the seconds turn by turn."""
    shape = arm["batch"]
    batch = _batch(shape, device)  # seeds what `SparseDenseNet` draws
    half = batch[0][::2], batch[1][::2]
    nets = {name: _network(arm["model"], shape, name) for name in cost.MEMORY}
    options = {**arm["model"], "in_channels": shape[1]}
    nets["two_sources"] = SparseDenseNet(**options, sources=2)
    if arm["model"] == VARIANTS["121"]:
        for efficient in (False, True):
            net = torchvision.models.densenet121(memory_efficient=efficient)
            nets["torchvision" + "_efficient" * efficient] = net
    figures, steps = {}, {}
    for name, net in nets.items():
        place(net, device)
        figures[name] = {"parameters": sum(p.numel() for p in net.parameters())}
        figures[name] |= _bytes(net, batch)
        steps[name] = _steps(net, [batch])
    # What else helps: half the precision, or half the batch twice.
    has_bf16 = best_precision(device) == "bf16-mixed"
    for name, strategy in {"bf16": "plain", "bf16_shared": "shared"}.items():
        net = nets[strategy]
        figures[name] = _bytes(net, batch, torch.bfloat16, measured=has_bf16)
        if has_bf16:
            steps[name] = _steps(net, [batch], torch.bfloat16)
    found = memory.measure(nets["plain"], half, _sgd)["total"]
    weights = sum(p.nbytes for p in nets["plain"].parameters())
    figures["half_batch"] = {"peak_bytes": found + weights}  # gradients stay
    steps["half_batch"] = _steps(nets["plain"], [half, half])
    # And what of the plain step's speed is its layout, channels last.
    first = _network(arm["model"], shape, "plain").to(device)
    figures["channels_first"] = {
        "peak_bytes": memory.measure(first, _contiguous(batch), _sgd)["total"]
    }
    steps["channels_first"] = _steps(first, [_contiguous(batch)])
    turns = []
    for turn in range(1 - WARM_UP, 1 + arm["turns"]):
        seconds = {}
        for name, step in steps.items():
            step()  # not timed: in training, too, the same network took the last one
            seconds[name] = step()
        turns.append({"epoch": turn, "seconds": sum(seconds.values()), **seconds})
    for name in ("bf16", "bf16_shared"):  # what each spends its time in
        if name in steps:
            figures[name]["profile"] = shares(iter(steps[name], None), device)
    return figures, turns[WARM_UP:]


def _bytes(
    net: nn.Module,
    batch: tuple[Tensor, Tensor],
    autocast: torch.dtype | None = None,
    measured: bool = True,
) -> dict[str, int]:
    """The peak of a step, accounted, and measured where that is wanted."""
    shape, options = list(batch[0].shape), {"autocast": autocast}
    found = {"accounted_bytes": memory.training_peak(net, shape, _sgd, **options)}
    if measured:
        found["peak_bytes"] = memory.measure(net, batch, _sgd, **options)
    return {name: peak["total"] for name, peak in found.items()}


def _depths(arm: dict[str, Any], device: torch.device) -> tuple[Any, Any]:
    """Measured bytes of a network of one block, by strategy and depth."""
    figures: dict[str, dict[str, int]] = {name: {} for name in cost.MEMORY}
    turns = []
    for i, depth in enumerate(arm["depths"], start=1):
        start = time.perf_counter()
        for name in cost.MEMORY:
            net = _network({**arm["model"], "arch": (depth,)}, arm["batch"], name)
            place(net, device)
            found = memory.measure(net, _batch(arm["batch"], device), _sgd)
            figures[name][str(depth)] = found["total"]
        turns.append({"epoch": i, "seconds": time.perf_counter() - start})
    return figures, turns


def _network(model: dict[str, Any], shape: list[int], strategy: str) -> DenseNet:
    return DenseNet(**{**model, "in_channels": shape[1], "memory": strategy})


def _batch(shape: list[int], device: torch.device) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    X = torch.randn(shape).to(device, memory_format=torch.channels_last)
    return X, torch.randint(10, (len(X),), device=device)


def _contiguous(batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    return batch[0].contiguous(), batch[1]


def _sgd(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.01, momentum=0.9)


def _steps(
    net: nn.Module,
    batches: list[tuple[Tensor, Tensor]],
    autocast: torch.dtype | None = None,
) -> Callable[[], float]:
    """A function that takes one training step and returns its seconds."""
    optimizer = _sgd(net.parameters())

    def step() -> float:
        start = time.perf_counter()
        optimizer.zero_grad()
        for X, y in batches:
            with torch.autocast(X.device.type, autocast, enabled=autocast is not None):
                loss = nn.functional.cross_entropy(net(X), y) / len(batches)
            loss.backward()
        optimizer.step()
        if X.is_cuda:
            torch.cuda.synchronize()
        return time.perf_counter() - start

    return step

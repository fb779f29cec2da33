"""Exercise 3: what a training step needs of memory and of time, by strategy.

Each arm is a network and a batch, in single precision, channels last. For every
strategy: the peak, estimated and measured, and the seconds of a step. They take
turns, so that whatever else slows the machine slows all of them. `depth` is one
block, ever deeper.
"""

import time
from collections.abc import Callable
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

from d2l_dense import VARIANTS, DenseNet, memory, records
from d2l_dense.recompute import MEMORY
from d2l_dense.trainer import to_device
from experiments.networks import SparseDenseNet
from experiments.provenance import provenance
from experiments.training import Run

BLOCK = {"stem": "cifar", "num_channels": 24, "growth_rate": 12, "bottleneck": 4}
ARMS: dict[str, dict[str, Any]] = {
    "chapter_96": {"model": {}, "batch": [128, 1, 96, 96], "turns": 5},
    "chapter_224": {"model": {}, "batch": [128, 1, 224, 224], "turns": 1},
    "densenet_121": {"model": VARIANTS["121"], "batch": [16, 3, 224, 224], "turns": 2},
    "bc_100_12": {
        "model": VARIANTS["BC-100-12"],
        "batch": [64, 3, 32, 32],
        "turns": 5,
    },
    "depth": {"model": BLOCK, "batch": [16, 3, 16, 16], "depths": [2, 4, 8, 16, 24]},
}


def execute(run: Run) -> records.Record:
    """Measure one arm; return its record."""
    arm, device = ARMS[run.arm], torch.device(run.device)
    measure = by_depth if "depths" in arm else by_strategy
    origin = provenance(device, "32-true")
    figures, turns = measure(arm, device)
    return run.record(arm, origin, turns, figures=figures)


def by_strategy(arm: dict[str, Any], device: torch.device) -> tuple[Any, Any]:
    """Bytes by strategy, and the seconds of a step, turn by turn."""
    shape, batch = arm["batch"], make_batch(arm["batch"], device)
    options = {**arm["model"], "in_channels": shape[1]}
    nets: dict[str, nn.Module] = {m: DenseNet(**options, memory=m) for m in MEMORY}
    nets["two_sources"] = SparseDenseNet(**options, sources=2)
    if arm["model"] == VARIANTS["121"]:
        for efficient in (False, True):
            net = torchvision.models.densenet121(memory_efficient=efficient)
            nets["torchvision" + "_efficient" * efficient] = net
    figures, steps = {}, {}
    for name, net in nets.items():
        to_device(net, device)
        figures[name] = {
            "parameters": sum(p.numel() for p in net.parameters()),
            "accounted_bytes": memory.training_peak(net, shape, sgd)["total"],
            "peak_bytes": memory.measure(net, batch, sgd)["total"],
        }
        steps[name] = training_step(net, *batch)
    for name, strategy in {"bf16": "plain", "bf16_shared": "shared"}.items():
        found = memory.training_peak(
            nets[strategy], shape, sgd, autocast=torch.bfloat16
        )
        figures[name] = {"accounted_bytes": found["total"]}
    turns = []
    for turn in range(1 + arm["turns"]):
        seconds = {}
        for name, step in steps.items():
            step()  # not timed: in training, too, the same network took the last one
            seconds[name] = step()
        turns.append({"epoch": turn, "seconds": sum(seconds.values()), **seconds})
    return figures, turns[1:]  # the first warms up


def by_depth(arm: dict[str, Any], device: torch.device) -> tuple[Any, Any]:
    """Measured bytes of a network of one block, by strategy and depth."""
    figures: dict[str, dict[str, int]] = {name: {} for name in MEMORY}
    turns = []
    for i, depth in enumerate(arm["depths"], start=1):
        start = time.perf_counter()
        for name in MEMORY:
            options = {**arm["model"], "arch": (depth,), "in_channels": 3}
            net = DenseNet(**options, memory=name)
            to_device(net, device)
            found = memory.measure(net, make_batch(arm["batch"], device), sgd)
            figures[name][str(depth)] = found["total"]
        turns.append({"epoch": i, "seconds": time.perf_counter() - start})
    return figures, turns


def make_batch(shape: list[int], device: torch.device) -> tuple[Tensor, Tensor]:
    """Random images and labels of 10 classes."""
    torch.manual_seed(0)
    X = torch.randn(shape).to(device, memory_format=torch.channels_last)
    return X, torch.randint(10, (len(X),), device=device)


def sgd(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.01, momentum=0.9)


def training_step(net: nn.Module, X: Tensor, y: Tensor) -> Callable[[], float]:
    """A function that takes one training step and returns its seconds."""
    optimizer = sgd(net.parameters())

    def step() -> float:
        start = time.perf_counter()
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(X), y).backward()
        optimizer.step()
        if X.is_cuda:
            torch.cuda.synchronize()
        return time.perf_counter() - start

    return step

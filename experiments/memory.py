"""Exercise 3: what a training step needs of memory and of time, by strategy.

Each arm is a network and a batch, in single precision, channels last. The strategies
take turns, so that what slows the machine slows all. `depth`: one block, ever deeper.
"""

import time
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import densenet121

from d2l_dense import VARIANTS, DenseNet, memory, records
from d2l_dense.recompute import MEMORY
from d2l_dense.trainer import to_device
from experiments.networks import sparse_densenet
from experiments.training import Run

sgd = partial(torch.optim.SGD, lr=0.01, momentum=0.9)
BLOCK = {"stem": "cifar", "num_channels": 24, "growth_rate": 12, "bottleneck": 4}
ARMS: dict[str, dict[str, Any]] = {
    "chapter_96": {"model": {}, "batch": [128, 1, 96, 96], "turns": 7},
    "chapter_224": {"model": {}, "batch": [128, 1, 224, 224], "turns": 2},
    "densenet_121": {"model": VARIANTS["121"], "batch": [16, 3, 224, 224], "turns": 3},
    "bc_100_12": {"model": VARIANTS["BC-100-12"], "batch": [64, 3, 32, 32], "turns": 9},
    "depth": {"model": BLOCK, "batch": [16, 3, 16, 16], "depths": [2, 4, 8, 16, 24]},
}


def execute(run: Run) -> records.Record:
    """Measure one arm."""
    arm = ARMS[run.arm]
    measure = by_depth if "depths" in arm else by_strategy
    figures, turns = measure(arm, torch.device(run.device))
    return {"configuration": arm, "history": turns, "figures": figures}


def by_strategy(arm: dict[str, Any], device: torch.device) -> tuple[Any, Any]:
    """Bytes by strategy, and the seconds of a step, turn by turn."""
    shape, batch = arm["batch"], make_batch(arm["batch"], device)
    options = {**arm["model"], "in_channels": shape[1]}
    nets: dict[str, nn.Module] = {m: DenseNet(**options, memory=m) for m in MEMORY}
    nets["two_sources"] = sparse_densenet(2, **options)
    if arm["model"] == VARIANTS["121"]:
        nets["torchvision"] = densenet121()
        nets["torchvision_efficient"] = densenet121(memory_efficient=True)
    figures, optimizers = {}, {}
    for name, net in nets.items():
        to_device(net, device)
        figures[name] = {
            "parameters": sum(p.numel() for p in net.parameters()),
            "accounted_bytes": memory.training_peak(net, shape, sgd)["total"],
            "peak_bytes": memory.measure(net, batch, sgd)["total"],
        }
        optimizers[name] = sgd(net.parameters())
    for name, net in {"bf16": nets["plain"], "bf16_shared": nets["shared"]}.items():
        peak = memory.training_peak(net, shape, sgd, autocast=torch.bfloat16)
        figures[name] = {"accounted_bytes": peak["total"]}
    turns = []
    for turn in range(1 + arm["turns"]):
        seconds = {}
        for name, net in nets.items():
            for _ in range(2):  # the first is not kept: another network's step was last
                seconds[name] = step_seconds(net, optimizers[name], *batch)
        turns.append({"epoch": turn, "seconds": sum(seconds.values()), **seconds})
    return figures, turns[1:]  # the first warms up


def by_depth(arm: dict[str, Any], device: torch.device) -> tuple[Any, Any]:
    """Measured bytes of a network of one block, by strategy and depth."""
    batch = make_batch(arm["batch"], device)
    figures: dict[str, dict[str, int]] = {name: {} for name in MEMORY}
    turns = []
    for i, depth in enumerate(arm["depths"], start=1):
        start = time.perf_counter()
        for name in MEMORY:
            net = DenseNet(**arm["model"], arch=(depth,), in_channels=3, memory=name)
            to_device(net, device)
            figures[name][str(depth)] = memory.measure(net, batch, sgd)["total"]
        turns.append({"epoch": i, "seconds": time.perf_counter() - start})
    return figures, turns


def make_batch(shape: list[int], device: torch.device) -> tuple[Tensor, Tensor]:
    """Random images and labels of 10 classes."""
    torch.manual_seed(0)
    X = torch.randn(shape).to(device, memory_format=torch.channels_last)
    return X, torch.randint(10, (len(X),), device=device)


def step_seconds(net: nn.Module, optimizer: Any, X: Tensor, y: Tensor) -> float:
    """Take one training step; return its seconds."""
    start = time.perf_counter()
    optimizer.zero_grad()
    nn.functional.cross_entropy(net(X), y).backward()
    optimizer.step()
    if X.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start

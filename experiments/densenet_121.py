"""DenseNet-121 at 224x224: torchvision's network and ours, by turns.

Eager, the same batch, type and layout. Ours as it is, and over a shared buffer.
"""

import statistics
import time
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

from d2l_dense import DenseNet
from d2l_dense.engine import make_fabric, place

BATCH, TURNS = 16, 9


def compare(device: torch.device, precision: str) -> dict[str, Any]:
    """Return images per second and ratios to torchvision's, by task and network."""
    nets = {
        "torchvision": torchvision.models.densenet121(),
        "plain": DenseNet.variant("121"),
        "shared": DenseNet.variant("121", memory="shared"),
    }
    fabric, _ = make_fabric(device.type, precision)
    X = torch.randn(BATCH, 3, 224, 224, device=device)
    X, y = X.to(memory_format=torch.channels_last), torch.arange(BATCH, device=device)

    def infer(net: nn.Module) -> Tensor:
        with torch.no_grad(), fabric.autocast():
            return net.eval()(X).sum()

    def train(net: nn.Module) -> Tensor:
        net.zero_grad()
        with fabric.autocast():
            loss = nn.functional.cross_entropy(net.train()(X), y)
        loss.backward()
        return loss

    for net in nets.values():
        place(net, device)
    found = {}
    for task, step in {"inference": infer, "training": train}.items():
        seconds: dict[str, list[float]] = {name: [] for name in nets}
        for _ in range(1 + TURNS):  # the first warms up
            for name, net in nets.items():
                start = time.perf_counter()
                step(net).item()  # waits for the device
                seconds[name].append(time.perf_counter() - start)
        theirs = seconds["torchvision"][1:]
        ratios = {
            name: statistics.median(a / b for a, b in zip(theirs, own[1:], strict=True))
            for name, own in seconds.items()
            if name != "torchvision"
        }
        rates = {name: [BATCH / s for s in own[1:]] for name, own in seconds.items()}
        found[task] = {"images_per_second": rates, "ratios": ratios}
    return found

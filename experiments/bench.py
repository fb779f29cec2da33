"""`make bench`: D2L's way and ours, torchvision's DenseNet-121 and ours.

The first is training end to end, at 96x96 in batches of 128, the second the network
alone, at 224x224. All take turns, and ratios are taken turn by turn. D2L's way is its
network in single precision, an image at a time through PIL, four workers, its step.
"""

import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from statistics import median
from typing import Any

import numpy as np
import torch
import torchvision
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision.transforms import Compose, Resize, ToTensor

from d2l_dense import DenseNet, FashionMNIST, Trainer, records
from d2l_dense.files import replace_file
from d2l_dense.trainer import to_device
from experiments.provenance import ROOT, provenance

TURNS, STEPS = 7, 8
DATA = {"batch_size": 128, "resize": (96, 96)}
RESULT = records.RESULTS / "bench.json"


class PlainDenseBlock(nn.Module):
    """D2L's dense block. Shape: (N, C, H, W) -> (N, C + num_layers * k, H, W)"""

    def __init__(self, num_layers: int, growth_rate: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList()
        for _ in range(num_layers):
            conv = nn.LazyConv2d(growth_rate, kernel_size=3, padding=1)
            self.layers.append(nn.Sequential(nn.LazyBatchNorm2d(), nn.ReLU(), conv))

    def forward(self, X: Tensor) -> Tensor:
        for layer in self.layers:
            X = torch.cat((X, layer(X)), dim=1)
        return X


def plain_densenet() -> nn.Sequential:
    """D2L's network in D2L's order of layers. Shape: (N, 1, H, W) -> (N, 10)"""
    stem = nn.LazyConv2d(64, kernel_size=7, stride=2, padding=3), nn.LazyBatchNorm2d()
    net = nn.Sequential(*stem, nn.ReLU(), nn.MaxPool2d(3, stride=2, padding=1))
    net.append(PlainDenseBlock(4, 32))
    for channels in (96, 112, 120):  # half of what the block before has
        net.extend([nn.LazyBatchNorm2d(), nn.ReLU(), nn.LazyConv2d(channels, 1)])
        net.extend([nn.AvgPool2d(2, stride=2), PlainDenseBlock(4, 32)])
    net.extend([nn.LazyBatchNorm2d(), nn.ReLU(), nn.AdaptiveAvgPool2d(1)])
    return net.extend([nn.Flatten(), nn.LazyLinear(10)])


def one_by_one(images: np.ndarray, labels: Tensor, batch: list[int]) -> Any:
    """A batch as D2L makes it: an image at a time, through PIL."""
    transform = Compose([Resize(DATA["resize"]), ToTensor()])
    X = torch.stack([transform(Image.fromarray(images[i])) for i in batch])
    return X, labels[batch]


def d2l_steps(device: torch.device) -> Iterator[int]:
    """Train D2L's way; yield the number of images after each step."""
    # Four workers are D2L's choice, on two cores too.
    warnings.filterwarnings("ignore", "This DataLoader will create 4 worker")
    data = FashionMNIST(**DATA).train
    collate = partial(one_by_one, data.images[:, 0].numpy(), data.labels)
    options = {"shuffle": True, "num_workers": 4, "collate_fn": collate}
    loader = DataLoader(range(len(data)), DATA["batch_size"], **options)
    net = plain_densenet()
    net(torch.zeros(2, 1, *DATA["resize"]))  # its layers take their shapes from it
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    trainer = Trainer(accelerator=device.type, precision="32-true")
    return take_steps(trainer, net, optimizer, loader)


def our_steps(trainer: Trainer) -> Iterator[int]:
    """Train our way; yield the number of images after each step."""
    net = DenseNet(lr=0.15, momentum=0.9, weight_decay=5e-4)
    to_device(net, trainer.device)
    loader = FashionMNIST(**DATA).to(trainer.device).train_dataloader()
    return take_steps(trainer, net, net.configure_optimizers(), loader)


def take_steps(
    trainer: Trainer, net: nn.Module, optimizer: Any, loader: DataLoader
) -> Iterator[int]:
    fabric = trainer.fabric
    net, optimizer = fabric.setup(net, optimizer)
    while True:
        for X, y in fabric.setup_dataloaders(loader):
            optimizer.zero_grad()
            with fabric.autocast():
                loss = nn.functional.cross_entropy(net(X), y)
            fabric.backward(loss)
            optimizer.step()
            yield len(y)


def images_per_second(steps: Iterator[int], device: torch.device, n: int) -> float:
    """Take n steps, and wait until the device has done them."""
    start = time.perf_counter()
    images = sum(next(steps) for _ in range(n))
    if device.type != "cpu":
        getattr(torch, device.type).synchronize()
    return images / (time.perf_counter() - start)


def d2l_images_per_second(device: torch.device) -> float:
    """Train D2L's way in a process that the allocator's settings do not reach."""
    command = [sys.executable, "-m", "experiments.bench", device.type, str(STEPS)]
    env = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
    return float(subprocess.check_output(command, cwd=ROOT, env=env, text=True))


def by_turns(ways: dict[str, Callable[[], float]]) -> dict[str, list[float]]:
    """Images per second of each way, turn by turn; the first, not kept, warms up."""
    turns = [{name: way() for name, way in ways.items()} for _ in range(1 + TURNS)]
    return {name: [turn[name] for turn in turns[1:]] for name in ways}


def against_torchvision(trainer: Trainer, n: int = 16) -> dict[str, Any]:
    """DenseNet-121 at 224x224: images per second, and ratios to torchvision's."""
    device = trainer.device
    nets = {
        "torchvision": torchvision.models.densenet121(),
        "plain": DenseNet.variant("121"),
        "shared": DenseNet.variant("121", memory="shared"),
    }
    for net in nets.values():
        to_device(net, device)
    X = torch.randn(n, 3, 224, 224, device=device)
    X, y = X.to(memory_format=torch.channels_last), torch.arange(n, device=device)

    def rate(net: nn.Module, train: bool) -> float:
        start = time.perf_counter()
        net.zero_grad()
        with torch.set_grad_enabled(train), trainer.fabric.autocast():
            loss = nn.functional.cross_entropy(net.train(train)(X), y)
        if train:
            loss.backward()
        loss.item()  # waits for the device
        return n / (time.perf_counter() - start)

    found = {}
    for task in ("inference", "training"):
        train = task == "training"
        ways = {name: partial(rate, net, train) for name, net in nets.items()}
        rates, ratios = by_turns(ways), {}
        for name in ("plain", "shared"):
            ratios[name] = median(np.divide(rates[name], rates["torchvision"]).tolist())
        found[task] = {"images_per_second": rates, "ratios": ratios}
    return found


def main() -> None:
    trainer = Trainer(progress=False)
    device = trainer.device
    single = Trainer(progress=False, precision="32-true")  # as D2L's way
    ways = {"d2l": partial(d2l_images_per_second, device)}
    for name, ours in {"ours": trainer, "ours_32_true": single}.items():
        ways[name] = partial(images_per_second, our_steps(ours), device, STEPS)
    rates = by_turns(ways)
    ratios = np.divide(rates["ours"], rates["d2l"]).tolist()
    result = provenance(device, trainer.precision)
    result |= {"turns": TURNS, "steps_a_turn": STEPS, "images_per_second": rates}
    result |= {"ratios": ratios, "ratio": median(ratios)}
    result["densenet_121"] = against_torchvision(trainer)
    # One entry for each type of device and precision; the others stay.
    recorded = json.loads(RESULT.read_text("utf-8")) if RESULT.exists() else {}
    recorded[f"{device.type}, {trainer.precision}"] = result
    replace_file(RESULT, (json.dumps(recorded, indent=1) + "\n").encode())
    print(f"{median(ratios):.2f} times D2L's rate, in a turn {min(ratios):.2f} or more")
    for task, row in result["densenet_121"].items():
        print(f"{task}: {row['ratios']} times torchvision's rate")


if __name__ == "__main__":
    if not sys.argv[1:]:
        main()
    else:  # as `d2l_images_per_second` calls it
        device, n = torch.device(sys.argv[1]), int(sys.argv[2])
        steps = d2l_steps(device)
        images_per_second(steps, device, 2)  # warms up
        print(images_per_second(steps, device, n))

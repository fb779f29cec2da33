"""`make bench`: D2L's way and ours, torchvision's DenseNet-121 and ours.

The first is training end to end: loader, forward, backward and step, at 96x96 in
batches of 128. The second is the network alone, at 224x224. All take turns of a few
steps, so that whatever else slows the machine slows all; ratios are taken turn by
turn. D2L's way has a process of its own, which the Makefile's settings of the
allocator do not reach.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from statistics import median
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

from d2l_dense import DenseNet, FashionMNIST, Trainer, cost, records
from d2l_dense.files import replace_file
from d2l_dense.trainer import to_device
from experiments.d2l_way import images_per_second
from experiments.provenance import ROOT, provenance

TURNS, STEPS = 7, 8
RESULT = records.RESULTS / "bench.json"


def our_steps(data: FashionMNIST, trainer: Trainer) -> Iterator[int]:
    """Train our way; yield the number of images after each step."""
    model = DenseNet(lr=0.15, momentum=0.9, weight_decay=5e-4)
    to_device(model, trainer.device)
    wrapped, optimizer = trainer.fabric.setup(model, model.configure_optimizers())
    wrapped.train()
    loader = data.to(trainer.device).train_dataloader()
    while True:
        for X, y in trainer.fabric.setup_dataloaders(loader):
            optimizer.zero_grad()
            with trainer.fabric.autocast():
                loss = model.loss(wrapped(X), y)
            trainer.fabric.backward(loss)
            optimizer.step()
            yield len(y)


def their_images_per_second(device: torch.device) -> float:
    """Let D2L's way train in a process of its own."""
    command = [sys.executable, "-m", "experiments.d2l_way", device.type, str(STEPS)]
    env = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
    done = subprocess.run(command, cwd=ROOT, env=env, stdout=-1, text=True, check=True)
    return float(done.stdout)


def against_d2l(trainer: Trainer) -> dict[str, Any]:
    """Images per second of both ways by turns, and how near ours is to the hardware."""
    ours = our_steps(FashionMNIST(batch_size=128, resize=(96, 96)), trainer)
    images_per_second(ours, trainer.device, STEPS)  # warms up
    rates: dict[str, list[float]] = {"d2l": [], "ours": []}
    for _ in range(TURNS):
        rates["d2l"].append(their_images_per_second(trainer.device))
        rates["ours"].append(images_per_second(ours, trainer.device, STEPS))
    ratios = [o / d for o, d in zip(rates["ours"], rates["d2l"], strict=True)]
    half = trainer.precision != "32-true"
    products = product_rate(trainer.device, torch.bfloat16 if half else torch.float32)
    macs = cost.summary({}, (1, 1, 96, 96)).macs
    # Two operations a MAC; the backward pass has twice the MACs of the forward pass.
    used = 3 * 2 * macs * median(rates["ours"]) / products
    return {
        "turns": TURNS,
        "steps_a_turn": STEPS,
        "images_per_second": rates,
        "ratios": ratios,
        "ratio": median(ratios),
        "product_flops": products,
        "share_of_product_flops": used,
    }


def product_rate(device: torch.device, dtype: torch.dtype, size: int = 2048) -> float:
    """FLOP/s of the product of two square matrices, the best of three."""
    A = torch.randn(size, size, device=device, dtype=dtype)
    seconds = []
    for _ in range(4):  # the first warms up
        start = time.perf_counter()
        (A @ A)[0, 0].item()
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / min(seconds[1:])


def against_torchvision(trainer: Trainer, n: int = 16) -> dict[str, Any]:
    """DenseNet-121 at 224x224: images per second, and ratios to torchvision's."""
    device = trainer.device
    nets = {
        "torchvision": torchvision.models.densenet121(),
        "plain": DenseNet.variant("121"),
        "shared": DenseNet.variant("121", memory="shared"),
    }
    X = torch.randn(n, 3, 224, 224, device=device)
    X, y = X.to(memory_format=torch.channels_last), torch.arange(n, device=device)

    def infer(net: nn.Module) -> Tensor:
        with torch.no_grad(), trainer.fabric.autocast():
            return net.eval()(X).sum()

    def train(net: nn.Module) -> Tensor:
        net.zero_grad()
        with trainer.fabric.autocast():
            loss = nn.functional.cross_entropy(net.train()(X), y)
        loss.backward()
        return loss

    for net in nets.values():
        to_device(net, device)
    found = {}
    for task, step in {"inference": infer, "training": train}.items():
        rates: dict[str, list[float]] = {name: [] for name in nets}
        for _ in range(1 + TURNS):
            for name, net in nets.items():
                start = time.perf_counter()
                step(net).item()  # waits for the device
                rates[name].append(n / (time.perf_counter() - start))
        rates = {name: rate[1:] for name, rate in rates.items()}  # the first warms up
        ratios = {
            name: median(a / b for a, b in zip(own, rates["torchvision"], strict=True))
            for name, own in rates.items()
            if name != "torchvision"
        }
        found[task] = {"images_per_second": rates, "ratios": ratios}
    return found


def main() -> None:
    trainer = Trainer(progress=False)
    result = provenance(trainer.device, trainer.precision) | against_d2l(trainer)
    result["densenet_121"] = against_torchvision(trainer)
    for arm, rates in result["images_per_second"].items():
        print(f"{arm}: {median(rates):.0f} images/s")
    low, high = min(result["ratios"]), max(result["ratios"])
    print(f"ratio {result['ratio']:.2f} ({low:.2f} to {high:.2f})")
    print(f"of the rate of matrix products: {result['share_of_product_flops']:.0%}")
    for task, row in result["densenet_121"].items():
        for arm, ratio in row["ratios"].items():
            print(f"DenseNet-121, {task}: {arm} {ratio:.2f} times torchvision's rate")
    # One entry for each type of device and precision; the others stay.
    recorded = json.loads(RESULT.read_text("utf-8")) if RESULT.exists() else {}
    recorded[f"{trainer.device.type}, {trainer.precision}"] = result
    replace_file(RESULT, (json.dumps(recorded, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()

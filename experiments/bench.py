"""`make bench`: D2L's way and ours, torchvision's DenseNet-121 and ours.

The first is training end to end: loader, forward, backward and step, at 96x96 in
batches of 128. The second (`densenet_121.py`) is the network alone, at 224x224.
All take turns of a few steps, so that whatever else slows the machine slows
all; the ratio is taken turn by turn. D2L's way has a process of its own, so that how
ours keeps memory is no help to it. Its loader has workers that read ahead: they stand
still while it is our turn, so that they load in D2L's time and not in ours.
"""

import json
import multiprocessing
import os
import signal
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

import torch

from d2l_dense import DenseNet, FashionMNIST, cost, records, report
from d2l_dense.allocator import keep_freed_memory
from d2l_dense.checkpoint import replace_file
from d2l_dense.engine import make_fabric, place
from experiments import d2l_way, densenet_121, step_profile
from experiments.provenance import provenance

TURNS, STEPS = 7, 8
RESULT = records.RESULTS / "bench.json"


def our_steps(
    data: FashionMNIST, device: torch.device, precision: str
) -> Iterator[int]:
    """Train our way; yield the number of images after each step."""
    fabric, _ = make_fabric(device.type, precision)
    model = DenseNet(lr=0.15, momentum=0.9, weight_decay=5e-4)
    place(model, device)
    wrapped, optimizer = fabric.setup(model, model.configure_optimizers())
    wrapped.train()
    loader = fabric.setup_dataloaders(data.to(device).train_dataloader())
    while True:
        for X, y in loader:
            optimizer.zero_grad()
            with fabric.autocast():
                loss = model.loss(wrapped(X), y)
            fabric.backward(loss)
            optimizer.step()
            yield len(y)


def take_turns(connection: Connection, device: torch.device) -> None:
    """Train D2L's way, as many steps a turn as are asked for, until nobody asks."""
    # Four workers are D2L's choice, on two cores too.
    warnings.filterwarnings("ignore", "This DataLoader will create 4 worker")
    steps = d2l_way.steps(FashionMNIST(batch_size=128, resize=(96, 96)), device)
    try:
        while True:
            n = connection.recv()
            signal_workers(signal.SIGCONT)
            rate = images_per_second(steps, device, n)
            signal_workers(signal.SIGSTOP)
            connection.send(rate)
    except EOFError:
        signal_workers(signal.SIGCONT)  # to end as well


def signal_workers(number: signal.Signals) -> None:
    for worker in multiprocessing.active_children():
        os.kill(worker.pid, number)


@contextmanager
def their_turns(device: torch.device) -> Iterator[Callable[[int], float]]:
    """A function that lets D2L's way take n steps; returns its images per second."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=take_turns, args=(there, device))
    process.start()
    there.close()

    def turn(n: int) -> float:
        here.send(n)
        return here.recv()

    try:
        yield turn
    finally:
        here.close()
        process.join()


def images_per_second(steps: Iterator[int], device: torch.device, n: int) -> float:
    """Take n steps, and wait until the device has done them."""
    start = time.perf_counter()
    images = sum(next(steps) for _ in range(n))
    if device.type != "cpu":
        getattr(torch, device.type).synchronize()
    return images / (time.perf_counter() - start)


def product_rate(device: torch.device, dtype: torch.dtype, size: int = 2048) -> float:
    """FLOP/s of the product of two square matrices, the best of three."""
    A = torch.randn(size, size, device=device, dtype=dtype)
    seconds = []
    for _ in range(4):  # the first warms up
        start = time.perf_counter()
        (A @ A)[0, 0].item()
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / min(seconds[1:])


def main() -> None:
    fabric, precision = make_fabric("auto", "auto")
    keep_freed_memory()  # as the trainer does
    device, data = fabric.device, FashionMNIST(batch_size=128, resize=(96, 96))
    ours = our_steps(data, device, precision)
    rates: dict[str, list[float]] = {"d2l": [], "ours": []}
    with their_turns(device) as theirs:
        for _ in range(1 + TURNS):  # the first warms up
            rates["d2l"].append(theirs(STEPS))
            rates["ours"].append(images_per_second(ours, device, STEPS))
    rates = {arm: turns[1:] for arm, turns in rates.items()}
    ratios = [o / d for o, d in zip(rates["ours"], rates["d2l"], strict=True)]
    dtype = torch.float32 if precision == "32-true" else torch.bfloat16
    peak = product_rate(device, dtype)
    macs = cost.summary({}, (1, 1, 96, 96)).macs
    # The backward pass multiplies twice as often as the forward pass.
    used = 3 * 2 * macs * statistics.median(rates["ours"]) / peak
    result = {
        **provenance(device, precision),
        "turns": TURNS,
        "steps_a_turn": STEPS,
        "images_per_second": rates,
        "ratios": ratios,
        "ratio": statistics.median(ratios),
        "product_flops": peak,
        "share_of_product_flops": used,
        "profile": step_profile.shares(ours, device),
    }
    del ours
    result["densenet_121"] = densenet_121.compare(device, precision)
    for arm in rates:
        print(f"{arm}: {statistics.median(rates[arm]):.0f} images/s")
    print(f"ratio {report.spread(ratios)}")
    print(f"{dtype} products {peak / 1e9:.0f} GFLOP/s, of which we use {used:.0%}")
    print({name: f"{share:.0%}" for name, share in result["profile"].items()})
    for task, row in result["densenet_121"].items():
        for arm, ratio in row["ratios"].items():
            print(f"DenseNet-121, {task}: {arm} {ratio:.2f} times torchvision's rate")
    # One entry for each type of device; the others stay.
    recorded = json.loads(RESULT.read_text("utf-8")) if RESULT.exists() else {}
    recorded[device.type] = result
    replace_file(RESULT, (json.dumps(recorded, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()

"""The chapter's network with the weights that a recorded run ended with."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import safetensors.torch
from torch import Tensor, nn

from d2l_dense import records
from d2l_dense.densenet import DenseNet

FILE = records.RESULTS / "densenet.safetensors"
SHA256 = "d7509446ac220304d7d8786d809df704a821fb99fdabdf36cedef7682bb5334c"


def trained_densenet(path: str | Path = FILE) -> tuple[DenseNet, records.Record]:
    """Return the trained network, in eval mode, and the record of its run.

    The weights of convolutions are kept in half precision and come back in
    single precision. `python -m experiments.weights` writes the file.

    Raises:
        FileNotFoundError: if the file or the run's record is not there.
        ValueError: if the file is not the one that SHA256 names.

    Chapter: "Is it the network of the record?".
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(
            f"{path} is not there: expected the trained weights. Restore it from "
            "the repository"
        )
    data = path.read_bytes()
    if (found := hashlib.sha256(data).hexdigest()) != SHA256:
        raise ValueError(
            f"{path} has SHA-256 {found} ({len(data):,} bytes): expected {SHA256}. "
            "Restore it from the repository"
        )
    with safetensors.safe_open(path, framework="pt") as file:
        source = file.metadata()
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    runs = records.load(source["experiment"], source["arm"], source["device"])
    record = next((r for r in runs if str(r["seed"]) == source["seed"]), None)
    if record is None:
        raise FileNotFoundError(f"{path} belongs to a run without a record: {source}")
    net = DenseNet(**record["configuration"]["model"])
    net.load_state_dict(state)  # into float32
    return net.eval(), record


def readers(net: DenseNet) -> Iterator[list[tuple[nn.BatchNorm2d, Tensor]]]:
    """For each block, who reads its features: its layers, then what comes after it.

    A reader is its batch normalization and its weight, (made, read, 3, 3) of a layer
    without a bottleneck, (made, read, 1, 1) of a transition, (classes, read) of the
    classifier; reader i of a block reads the block's input and i layers, i from 0.

    Source: Huang et al. (2017), figure 5. Chapter: "What does a layer read?".
    """
    stages = dict(net.net.named_children())
    for i in range(1, len(net.arch) + 1):
        last = stages.get(f"transition{i}", stages["head"])
        found = [*stages[f"block{i}"].layers, last]
        yield [(reader[0], reader[-1].weight) for reader in found]

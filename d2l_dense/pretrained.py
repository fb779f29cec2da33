"""The chapter's network with the weights that a recorded run ended with."""

import hashlib
from pathlib import Path

import safetensors.torch

from d2l_dense import records
from d2l_dense.densenet import DenseNet

FILE = records.RESULTS / "densenet.safetensors"
SHA256 = "d7509446ac220304d7d8786d809df704a821fb99fdabdf36cedef7682bb5334c"


def trained_densenet(path: str | Path = FILE) -> tuple[DenseNet, records.Record]:
    """Return the trained network, in evaluation mode, and the record of its run.

    `python -m experiments.weights` writes the file, convolutions in half precision.

    Chapter: "What does it get wrong?".
    """
    data = Path(path).read_bytes()
    if (found := hashlib.sha256(data).hexdigest()) != SHA256:
        held = f"SHA-256 {found} ({len(data):,} bytes)"
        raise ValueError(f"{path} has {held}: expected {SHA256}; restore the file")
    with safetensors.safe_open(path, framework="pt") as file:
        run = file.metadata()
    runs = records.load(run["experiment"], run["arm"], run["device"])
    (record,) = [r for r in runs if str(r["seed"]) == run["seed"]]
    net = DenseNet(**record["configuration"]["model"])
    net.load_state_dict(safetensors.torch.load(data))  # into float32
    return net.eval(), record

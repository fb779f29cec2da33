"""`python -m experiments.weights RECORD`: keep the weights that a run ended with.

Takes them from the run's checkpoint, writes them beside the records, and prints the
hash to pin in `d2l_dense/records.py`. Weights of another run are not replaced.
"""

import argparse
import hashlib
import json
import sys
from pathlib import Path

import safetensors.torch
import torch

from d2l_dense import records
from d2l_dense.files import replace_file
from experiments.__main__ import CHECKPOINTS


def export(place: Path, checkpoints: Path, target: Path) -> str:
    """Write the weights of a record's run to `target`; return their SHA-256."""
    record = json.loads(place.read_text(encoding="utf-8"))
    source = {key: str(record[key]) for key in ("experiment", "arm", "seed")}
    source["device"] = record["device"]["type"]
    if target.exists() and safetensors.safe_open(target, "pt").metadata() != source:
        words = f"does not hold the weights of {place.name}: name another with --output"
        raise ValueError(f"{target} {words}")
    checkpoint = checkpoints / f"{place.stem}.pt"
    content = torch.load(checkpoint, map_location="cpu", weights_only=True)
    if content["history"] != record["history"]:
        raise ValueError(f"{checkpoint} is that of another run than {place.name}")
    state = content["state"]["model"]
    for name, value in state.items():
        # Convolutions have all but a few of the weights, and bear the rounding;
        # half precision would lose the smallest of the others.
        state[name] = (value.half() if value.dim() == 4 else value).contiguous()
    data = safetensors.torch.save(state, metadata=source)
    replace_file(target, data)
    return hashlib.sha256(data).hexdigest()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("record", type=Path)
    parser.add_argument("--output", type=Path, default=records.WEIGHTS)
    options = parser.parse_args()
    try:
        print(export(options.record, CHECKPOINTS, options.output))
    except (OSError, ValueError) as error:
        sys.exit(str(error))

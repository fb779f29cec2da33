"""`python -m experiments.weights RECORD`: keep the weights that a run ended with.

Takes them from the run's checkpoint, writes them beside the records, and prints the
hash to pin in `d2l_dense/trained.py`.
"""

import argparse
import hashlib
import json
import sys
from pathlib import Path

import safetensors.torch
import torch

from d2l_dense import trained
from d2l_dense.checkpoint import replace_file
from experiments.__main__ import CHECKPOINTS

WHOSE = "experiment", "arm", "seed"


def export(place: Path, checkpoints: Path, target: Path) -> str:
    """Write the weights of a record's run to `target`; return their SHA-256.

    Raises:
        OSError: if the record or the checkpoint is not there, or `target` cannot be
            written.
        ValueError: if the checkpoint is that of another run.
    """
    record = json.loads(place.read_text(encoding="utf-8"))
    checkpoint = checkpoints / f"{place.stem}.pt"
    content = torch.load(checkpoint, map_location="cpu", weights_only=True)
    if content["history"] != record["history"]:
        raise ValueError(f"{checkpoint} is that of another run than {place.name}")
    state = {
        # Convolutions have all but a few of the weights, and bear the rounding;
        # half precision would lose the smallest of the others.
        name: (value.half() if value.dim() == 4 else value).contiguous()
        for name, value in content["state"]["model"].items()
    }
    source = {key: str(record[key]) for key in WHOSE}
    source["device"] = record["device"]["type"]
    data = safetensors.torch.save(state, metadata=source)
    replace_file(target, data)
    return hashlib.sha256(data).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.weights", description=__doc__
    )
    parser.add_argument("record", type=Path)
    options = parser.parse_args()
    print(export(options.record, CHECKPOINTS, trained.FILE))


if __name__ == "__main__":
    try:
        main()
    except (OSError, ValueError, KeyError) as error:
        sys.exit(str(error))

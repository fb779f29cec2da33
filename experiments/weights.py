"""`python -m experiments.weights RECORD`: keep the weights that a run ended with.

Takes them from the run's checkpoint, writes them beside the records, and prints the
hash to pin in `d2l_dense/trained.py`. Weights of another run are not replaced.
"""

import argparse
import hashlib
import json
import sys
from contextlib import suppress
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
        ValueError: if one of the two is damaged, or the checkpoint or `target` is
            that of another run.
    """
    try:
        record = json.loads(place.read_text(encoding="utf-8"))
        history, device = record["history"], record["device"]["type"]
        source = {key: str(record[key]) for key in WHOSE} | {"device": device}
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{place} is no record: expected one of results/") from None
    if target.exists() and _source(target) != source:
        raise ValueError(
            f"{target} does not hold the weights of {place.name}: name another file, "
            "with --output"
        )
    checkpoint = checkpoints / f"{place.stem}.pt"
    try:
        content = torch.load(checkpoint, map_location="cpu", weights_only=True)
        found, weights = content["history"], content["state"]["model"]
    except OSError:
        raise
    except Exception:  # damage shows in many ways
        raise ValueError(
            f"{checkpoint} is cut, damaged or no checkpoint: delete it and {place}, "
            "and run the experiment again"
        ) from None
    if found != history:
        raise ValueError(f"{checkpoint} is that of another run than {place.name}")
    state = {
        # Convolutions have all but a few of the weights, and bear the rounding;
        # half precision would lose the smallest of the others.
        name: (value.half() if value.dim() == 4 else value).contiguous()
        for name, value in weights.items()
    }
    data = safetensors.torch.save(state, metadata=source)
    replace_file(target, data)
    return hashlib.sha256(data).hexdigest()


def _source(path: Path) -> dict[str, str] | None:
    """Whose weights a file holds; None if it does not say."""
    with (
        suppress(safetensors.SafetensorError),
        safetensors.safe_open(path, framework="pt") as file,
    ):
        return file.metadata()


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.weights", description=__doc__
    )
    parser.add_argument("record", type=Path)
    parser.add_argument(
        "--output", type=Path, default=trained.FILE, help="where to (%(default)s)"
    )
    options = parser.parse_args()
    print(export(options.record, CHECKPOINTS, options.output))


if __name__ == "__main__":
    try:
        main()
    except (OSError, ValueError) as error:
        sys.exit(str(error))

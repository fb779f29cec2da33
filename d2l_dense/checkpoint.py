"""Save where a training run stands, and load only what the same run has saved."""

import io
import json
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from d2l_dense.files import check_folder, replace_file

FORMAT = "d2l_dense checkpoint, version 2"
# The same numbers come out, whatever these are. (An optimizer's state is still empty.)
SAME_NUMBERS = {"memory", "root", "num_workers", "state"}


def identity(trainer: Any, **parts: Any) -> dict[str, Any]:
    """Return what makes a run this one: arguments, rows of data, weights' shapes."""
    names = "seed", "precision", "gradient_clip_val", "num_train_batches"
    run = {name: getattr(trainer, name) for name in names}
    run |= {k: type(v).__name__ for k, v in ({"schedule": None} | parts).items()}
    if "schedule" in parts:  # it depends on the number of steps
        run["max_epochs"] = trainer.max_epochs
    for owner, part in parts.items():
        arguments = dict(getattr(part, "hparams", {}))
        if owner == "data":
            arguments |= {n: getattr(part, n, None) for n in ("train_rows", "val_rows")}
        elif owner == "model":
            arguments |= {f"{k}.shape": v.shape for k, v in part.state_dict().items()}
        elif owner != "scaler":
            arguments |= part.state_dict()
        for name in sorted(arguments.keys() - SAME_NUMBERS):
            run[f"{owner}'s {name}"] = arguments[name]

    def plain(value):  # a NumPy number or array below 8 MiB; else only its type counts
        small = getattr(value, "nbytes", 2**23) < 2**23
        return value.tolist() if small else type(value).__name__

    return json.loads(json.dumps(run, default=plain, skipkeys=True))


def save(path: Path, run: dict, history: list[dict], parts: dict[str, Any]) -> None:
    """Write a checkpoint in one step; a TypeError if `load` could not read it."""
    state = {name: part.state_dict() for name, part in parts.items()}
    content = {"format": FORMAT, "run": run, "history": history, "state": state}
    buffer = io.BytesIO()
    torch.save(content, buffer)
    buffer.seek(0)
    if unsafe := torch.serialization.get_unsafe_globals_in_checkpoint(buffer):
        names = ", ".join(unsafe)
        advice = "Hand over float(...) or int(...) of a number of NumPy's"
        raise TypeError(f"{path} could not be read again: it holds {names}. {advice}")
    replace_file(path, buffer.getvalue())


def load(path: Path, run: dict[str, Any]) -> dict[str, Any] | None:
    """Return what `save` has written for this run; None if there is no file.

    A damaged file is refused, and one of another run, by the first key that differs.
    """
    check_folder(path.parent)  # before the first epoch, and not after it
    if not path.exists():
        return None
    data, content = io.BytesIO(path.read_bytes()), None
    with suppress(Exception):  # damage shows in many ways
        if zipfile.ZipFile(data).testzip() is None:  # torch.load checks no sums
            data.seek(0)
            content = torch.load(data, map_location="cpu", weights_only=True)
    advice = "Delete it to start anew, or name another checkpoint."
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"{path} is damaged, or is no '{FORMAT}'. {advice}")
    for key in run | content["run"]:
        found, expected = content["run"].get(key), run.get(key)
        if found != expected:
            both = f"its {key} is {found!r:.80}, this run's is {expected!r:.80}"
            raise ValueError(f"{path} belongs to another run: {both}. {advice}")
    return content

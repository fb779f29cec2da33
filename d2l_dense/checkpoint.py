"""Checkpoints that survive a kill, and refuse to be mistaken for another's."""

import io
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

FORMAT = "d2l_dense checkpoint, version 1"


def replace_file(path: Path, data: bytes) -> None:
    """Write a file in one step: a reader sees the old one or the new one.

    Raises:
        OSError: if the folder cannot be written or the disk is full; the old
            file is then untouched.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise OSError(
            error.errno,
            f"cannot write {path}: {error.strerror}. Any older file of that name "
            "is as it was; make room or choose another folder and run again",
        ) from None


def save(path: Path, run: dict[str, Any], state: dict[str, Any]) -> None:
    """Write the state of a run, and what identifies that run, in one step."""
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, "run": run, "state": state}, buffer)
    replace_file(path, buffer.getvalue())


def load(path: Path, run: dict[str, Any]) -> dict[str, Any]:
    """Return the state that `save` wrote for the same run.

    Raises:
        ValueError: if the file is cut, is no checkpoint of ours, or belongs to
            another run; it names the file and what differs.
    """
    advice = "Delete it to start anew, or name another checkpoint"
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"{path} is cut or no checkpoint ({reason}). {advice}."
        ) from None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise ValueError(f"{path} is not a '{FORMAT}'. {advice}.")
    for key in run:
        if found["run"].get(key) != run[key]:
            raise ValueError(
                f"{path} belongs to another run: its {key} is "
                f"{found['run'].get(key)!r}, this run's is {run[key]!r}. {advice}."
            )
    return found["state"]

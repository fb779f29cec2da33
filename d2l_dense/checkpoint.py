"""Checkpoints that survive a kill, and refuse to be mistaken for another's."""

import copy
import io
import os
import secrets
import tempfile
import zipfile
from contextlib import suppress
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
    target = Path(path).resolve()  # what a link leads to
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException as error:  # Ctrl-C too
        with suppress(OSError):
            temporary.unlink()
        if not isinstance(error, OSError):
            raise
        raise OSError(
            error.errno,
            f"cannot write {path}: {error.strerror}. Any older file of that name "
            "is as it was; make room or choose another folder and run again",
        ) from None


def check_folder(folder: Path) -> None:
    """Make a folder, and see that it can be written, before the work and not after.

    Raises:
        OSError: if it cannot; it names the folder.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise OSError(
            error.errno,
            f"cannot write to {folder}: {error.strerror}. Choose another folder",
        ) from None


def cache_folder() -> Path:
    """Where this user keeps files between runs; without a home, the folder `data`."""
    try:
        caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
        return Path(caches, "d2l_dense").expanduser()
    except RuntimeError:
        return Path("data")


def identity(
    model: "torch.nn.Module", data: object, optimizer: "torch.optim.Optimizer"
) -> dict[str, Any]:
    """What tells a run from another: its model's, data's and optimizer's arguments.

    Left out is what leads to the same numbers: the memory strategy, where the data
    lie, and how many processes load them.
    """
    arguments: dict[str, Any] = {}
    for name, part in {"model": model, "data": data}.items():
        arguments[name] = type(part).__name__
        for key, value in getattr(part, "hparams", {}).items():
            if key not in ("memory", "root", "num_workers") and _plain(value):
                arguments[f"{name}'s {key}"] = value
    arguments["parameters"] = sum(p.numel() for p in model.parameters())
    return arguments | {f"optimizer's {k}": v for k, v in optimizer.defaults.items()}


def _plain(value: object) -> bool:
    if isinstance(value, tuple | list):
        return all(map(_plain, value))
    return value is None or isinstance(value, bool | int | float | str)


def _tuples(value: object) -> object:
    """The same with tuples for lists, for an argument may be given as either."""
    return tuple(map(_tuples, value)) if isinstance(value, tuple | list) else value


class Checkpoint:
    """One file that holds where a run stands.

    Args:
        path: the file.
        run: what identifies the run; another run's file is refused.
        parts: objects with `state_dict` and `load_state_dict`.
    """

    def __init__(self, path: Path, run: dict[str, Any], **parts: Any) -> None:
        self.path, self.run, self.parts = path, run, parts

    def save(self, history: list[dict[str, float]]) -> None:
        """Write the parts and the history in one step.

        Raises:
            TypeError: if `restore` could not read it, as with a NumPy number in it;
                an older file is then untouched.
            OSError: as `replace_file`.
        """
        replace_file(self.path, self._packed(history))

    def _packed(self, history: list[dict[str, float]]) -> bytes:
        state = {name: part.state_dict() for name, part in self.parts.items()}
        content = {"format": FORMAT, "run": self.run, "history": history}
        buffer = io.BytesIO()
        torch.save(content | {"state": state}, buffer)
        buffer.seek(0)
        if found := torch.serialization.get_unsafe_globals_in_checkpoint(buffer):
            raise TypeError(
                f"{self.path} could not be read again: it would hold "
                f"{', '.join(sorted(found))}; expected tensors, strings and plain "
                "numbers. Hand over float(...) or int(...) of a number of NumPy's"
            )
        return buffer.getvalue()

    def restore(self) -> list[dict[str, float]]:
        """Load the parts and return the history: [] if there is no file yet.

        Raises:
            ValueError: if the file is damaged, is no checkpoint of ours, or belongs
                to another run; it names the file and what differs. The parts are
                then as they were.
            TypeError: if `save` would refuse what the parts hold.
            OSError: if it cannot be read, or no file can be written there.
        """
        check_folder(self.path.parent)  # before the first epoch and not after it
        self._packed([])
        if not self.path.exists():
            return []
        data, found = io.BytesIO(self.path.read_bytes()), None
        with suppress(Exception):  # damage shows in many ways
            # torch.load does not check the sums that its zip file holds.
            if zipfile.ZipFile(data).testzip() is None:
                data.seek(0)
                found = torch.load(data, map_location="cpu", weights_only=True)
        if found is None:
            raise self._refusal("is cut, damaged or no checkpoint")
        whole = isinstance(found, dict) and {"run", "history", "state"} < found.keys()
        if not whole or found.get("format") != FORMAT:
            raise self._refusal(f"is not a '{FORMAT}'")
        for key, value in self.run.items():
            # What an older file does not say, it cannot contradict.
            if _tuples(found["run"].get(key, value)) != _tuples(value):
                raise self._refusal(
                    f"belongs to another run: its {key} is "
                    f"{found['run'].get(key)!r}, this run's is {value!r}"
                )
        if found["state"].keys() != self.parts.keys():
            raise self._refusal(
                f"belongs to another run: it holds {', '.join(found['state'])}, "
                f"this run needs {', '.join(self.parts)}"
            )
        before = {k: copy.deepcopy(v.state_dict()) for k, v in self.parts.items()}
        for name, part in self.parts.items():
            try:
                part.load_state_dict(found["state"][name])
            except Exception as error:
                for k, v in self.parts.items():
                    v.load_state_dict(before[k])
                raise self._refusal(f"does not fit this run's {name}", error) from None
        return found["history"]

    def _refusal(self, what: str, error: Exception | None = None) -> ValueError:
        why = f" ({' '.join(str(error).split())[:200]})" if error else ""
        return ValueError(
            f"{self.path} {what}{why}. Delete it to start anew, or name another "
            "checkpoint."
        )

"""Where files are kept, and how they are written so that none is ever half there."""

import os
import secrets
import tempfile
from contextlib import suppress
from pathlib import Path


def replace_file(path: str | Path, data: bytes) -> None:
    """Write a file in one step: a reader sees the old one or the new one.

    Raises:
        OSError: if the folder cannot be written or the disk is full; the old
            file is then untouched.
    """
    target = Path(path).resolve()  # follow a link, and do not replace it
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
    """Make a folder, and see that it can be written, before hours of work.

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

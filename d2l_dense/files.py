"""Find, fetch and write files so that none is ever half there or another's."""

import gzip
import hashlib
import os
import tempfile
import zlib
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path
from urllib.request import urlopen


def replace_file(path: str | Path, data: bytes) -> None:
    """Write a file in one step: a reader sees the old one or the new one."""
    target = Path(path).resolve()  # follow a link, and do not replace it
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".", dir=target.parent) as folder:
            temporary = Path(folder, target.name)
            with open(temporary, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
    except OSError as error:
        advice = "Any older file is as it was; make room or choose another folder"
        text = f"cannot write {path}: {error.strerror}. {advice}"
        raise OSError(error.errno, text) from None


def check_folder(folder: Path) -> None:
    """See that a folder can be written to, before hours of work."""
    replace_file(folder / ".writable", b"")
    (folder / ".writable").unlink(missing_ok=True)


def cache_folder() -> Path:
    """Where this user keeps files between runs."""
    caches = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(caches, "d2l_dense")


def data_folders(root: str | Path | None = None) -> list[Path]:
    """The folders to look into, in this order; what is fetched goes to the first."""
    folders = root, os.environ.get("D2L_DENSE_DATA"), cache_folder(), "data", "../data"
    return [Path(folder).expanduser() for folder in folders if folder]


def find_or_fetch(
    places: Sequence[Path], addresses: Sequence[str], digest: str, advice: str = ""
) -> tuple[Path, bytes]:
    """Return where a file is, and its bytes, decompressed; or say what was found.

    It is looked for in the places, compressed (.gz) or not, then at the addresses, and
    only bytes of this SHA-256 or SHA-1 count. A download goes to the first place.
    """
    algorithm = "SHA256" if len(digest) == 64 else "SHA1"
    files = [p.with_name(p.name + end) for p in places for end in ("", ".gz")]
    found = []
    for source in [*filter(os.path.isfile, files), *addresses]:
        try:
            local = isinstance(source, Path)
            with open(source, "rb") if local else urlopen(source, timeout=30) as file:
                data = file.read()
            data = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
        except (OSError, EOFError, zlib.error, HTTPException) as error:
            found.append(f"{source}: {error}")
            continue
        other = hashlib.new(algorithm, data).hexdigest()
        if other == digest:
            if not local:
                replace_file(places[0], data)
            return source if local else places[0], data
        start = f"{len(data):,} bytes that begin with {data[:12]}"
        found.append(f"{source}: {start}, of {algorithm} {other}")
    raise FileNotFoundError(
        f"found no {places[0].name} of {algorithm} {digest} ({'; '.join(found)}): put "
        f"it into {places[0].parent} or name its folder in D2L_DENSE_DATA{advice}"
    )

"""Find the files of a data set, or fetch them; only the published bytes count."""

import gzip
import hashlib
import os
import zlib
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path
from urllib.request import urlopen

from d2l_dense.files import cache_folder, replace_file


def data_folders(root: str | Path | None = None) -> list[Path]:
    """The folders to look into, in this order; what is fetched goes to the first."""
    folders = root, os.environ.get("D2L_DENSE_DATA"), cache_folder(), "data", "../data"
    return [Path(folder).expanduser() for folder in folders if folder]


def find_or_fetch(
    places: Sequence[Path], addresses: Sequence[str], digest: str, advice: str = ""
) -> tuple[Path, bytes]:
    """Return where a file is, and its bytes, decompressed.

    They are looked for in the places, compressed (.gz) or not, then at the addresses,
    and only those of this SHA-256 or SHA-1 count. A download is written to the first
    place in one step: no file is ever cut, and two processes may fetch at once.

    Raises:
        FileNotFoundError: if there is none; it says what was found instead.
    """
    algorithm = "SHA256" if len(digest) == 64 else "SHA1"
    files = [p.with_name(p.name + end) for p in places for end in ("", ".gz")]
    found = []
    for source in [*filter(Path.is_file, files), *addresses]:
        try:
            local = isinstance(source, Path)
            with open(source, "rb") if local else urlopen(source, timeout=30) as file:
                data = file.read()
            data = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
        except (OSError, EOFError, zlib.error, HTTPException) as error:
            found.append(f"{source}: {error}")
            continue
        other = hashlib.new(algorithm, data).hexdigest()
        if other != digest:
            start = f"{len(data):,} bytes that begin with {data[:12]}"
            found.append(f"{source}: {start}, of {algorithm} {other}")
            continue
        if not local:
            source = places[0]
            replace_file(source, data)
        return source, data
    raise FileNotFoundError(
        f"found no {places[0].name} of {algorithm} {digest} ({'; '.join(found)}): put "
        f"it into {places[0].parent} or name its folder in D2L_DENSE_DATA{advice}"
    )

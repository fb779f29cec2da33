"""Find, fetch and verify the files of Fashion-MNIST and of Kaggle's house prices.

Whatever the source, a file counts only if its decompressed bytes have the
SHA-256 or SHA-1 sum below. It is written under a temporary name and renamed, so a cut
download never looks like data and two processes may fetch at once.
"""

import gzip
import hashlib
import os
import shutil
import subprocess
import tempfile
import urllib.request
import zlib
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError

import numpy as np
import torchvision

from d2l_dense.checkpoint import cache_folder, replace_file

NAMES = {  # name: (SHA-256 of the decompressed file, its bytes)
    "train-images-idx3-ubyte": (
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        47_040_016,
    ),
    "train-labels-idx1-ubyte": (
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        60_008,
    ),
    "t10k-images-idx3-ubyte": (
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        7_840_016,
    ),
    "t10k-labels-idx1-ubyte": (
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        10_008,
    ),
}
D2L = "https://d2l-data.s3-accelerate.amazonaws.com/"
TRAIN, TEST = "kaggle_house_pred_train.csv", "kaggle_house_pred_test.csv"
HOUSE_PRICES = {  # name: (SHA-1 as D2L's book prints it, bytes)
    TRAIN: ("585e9cc93e70b39160e7921475f9bcd7d31219ce", 460_676),
    TEST: ("fa19780a7b011d9b009e8bff8e99922a8ee2eb90", 451_405),
}
VARIABLE = "D2L_DENSE_DATA"
REFUSALS = (OSError, ValueError, HTTPException, subprocess.SubprocessError)
DEBIAN_PACKAGE = "dataset-fashion-mnist"
DEBIAN_FOLDER = "usr/share/datasets/fashion-mnist"


def fashion_mnist(root: str | Path | None = None) -> dict[str, Path]:
    """Return the path of each of the four files, fetching what is missing.

    Looks in `root`, the folder that the variable D2L_DENSE_DATA names, `data`
    and `../data` (where torchvision and D2L keep theirs), our cache, Debian's
    package. What is in none of them is fetched into the first of `root`,
    D2L_DENSE_DATA and the cache.

    Raises:
        FileNotFoundError: if a file is nowhere and cannot be fetched.
    """
    folders, target = _places(root)
    target = target / "FashionMNIST" / "raw"
    return {name: _find(name, folders) or _fetch(name, target) for name in NAMES}


def house_prices(root: str | Path | None = None) -> dict[str, Path]:
    """Return the paths of Kaggle's two files, as `fashion_mnist` does, from D2L."""
    folders, target = _places(root)
    return {name: _find(name, folders) or _fetch(name, target) for name in HOUSE_PRICES}


def _places(root: str | Path | None) -> tuple[list[Path], Path]:
    """The folders to look into, and the one to fetch into."""
    named = [Path(name) for name in (root, os.environ.get(VARIABLE)) if name]
    cache = cache_folder()
    folders = [*named, Path("data"), Path("../data"), cache, Path("/", DEBIAN_FOLDER)]
    folders = [folder.expanduser() for folder in folders]
    return folders, (named or [cache])[0].expanduser()


def read(path: Path) -> np.ndarray:
    """Return the numbers of an IDX file of `NAMES`, verified.

    Shape: (n,) labels or (n, 28, 28) images, uint8

    Raises:
        ValueError: if the file is not what it should be; it names the file,
            what was found, what was expected and what to do.
    """
    data = verified(path.read_bytes(), path)
    ndim = data[3]
    shape = np.frombuffer(data, ">u4", count=ndim, offset=4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * ndim).reshape(shape)


def verified(data: bytes, path: Path) -> bytes:
    """Return the decompressed bytes of a file, or say what is wrong with it."""
    name = path.name.removesuffix(".gz")
    digest, size = (NAMES | HOUSE_PRICES)[name]
    kind = "SHA-1" if len(digest) == 40 else "SHA-256"
    try:
        if path.suffix == ".gz":
            data = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        found = f"{len(data):,} bytes that do not decompress ({error})"
    else:
        found_digest = hashlib.new(kind.replace("-", ""), data).hexdigest()
        if found_digest == digest:
            return data
        found = f"{len(data):,} bytes with {kind} {found_digest}"
    raise ValueError(
        f"{path} is not {_owner(name)}'s: found {found}; expected {size:,} bytes "
        f"with {kind} {digest} when decompressed. Delete the file and run "
        "again: it is then fetched anew."
    )


def _owner(name: str) -> str:
    return "Kaggle" if name in HOUSE_PRICES else "Fashion-MNIST"


def _find(name: str, folders: list[Path]) -> Path | None:
    for folder in folders:
        for place in (folder, folder / "FashionMNIST" / "raw"):
            for path in (place / name, place / f"{name}.gz"):
                if path.is_file():
                    return path
    return None


def _fetch(name: str, target: Path) -> Path:
    """Fetch one file, verify it and put it into `target` in one step."""
    failures = []
    sources, packed = [_from_mirror, _from_debian], f"{name}.gz"
    if name in HOUSE_PRICES:
        sources, packed = [_from_d2l], name
    for source in sources:
        try:
            data = verified(source(name), Path(packed))
        except REFUSALS as error:
            failures.append(f"{source.__doc__}: {error}")
            continue
        replace_file(target / name, data)
        return target / name
    raise FileNotFoundError(
        f"{_owner(name)}'s file {name} was not found and could not be fetched "
        f"({'; '.join(failures)}). Put {packed} into {target}, or let the "
        f"variable {VARIABLE} name a folder that holds the files."
    )


def _from_mirror(name: str) -> bytes:
    """torchvision's mirror"""
    error: Exception = OSError("torchvision names none")
    for mirror in torchvision.datasets.FashionMNIST.mirrors:
        try:
            return _download(f"{mirror}{name}.gz")
        except HTTPError as failure:
            error = failure
            failure.close()
        except (OSError, HTTPException) as failure:
            error = failure
    raise error


def _from_d2l(name: str) -> bytes:
    """D2L's server"""
    return _download(f"{D2L}{name}")


def _download(address: str) -> bytes:
    with urllib.request.urlopen(address, timeout=30) as answer:
        return answer.read()


def _from_debian(name: str) -> bytes:
    """Debian's package"""
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise OSError("apt-get and dpkg-deb are not here")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)  # apt drops its rights before it downloads

        def run(*command: str) -> int:
            return subprocess.run(
                command, cwd=folder, capture_output=True, timeout=600
            ).returncode

        download = ("apt-get", "download", DEBIAN_PACKAGE)
        if run(*download) and (run("apt-get", "update") or run(*download)):
            raise OSError(f"apt-get cannot download {DEBIAN_PACKAGE}")
        package = next(Path(folder).glob("*.deb"))
        if run("dpkg-deb", "-x", str(package), folder):
            raise OSError(f"dpkg-deb cannot unpack {package.name}")
        return Path(folder, DEBIAN_FOLDER, f"{name}.gz").read_bytes()

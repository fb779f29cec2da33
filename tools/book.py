"""Build the book into _build/html.

With SOLUTIONS=0 in the environment, into _build/html-no-solutions and without
the answers to the exercises: see _ext/solutions.py.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "_build"

# What the pages depend on beside their own source. Neither jupyter-cache, whose
# key is a notebook's code, nor Sphinx, which looks at a page's file, sees it.
INPUTS = ("d2l_dense", "results", "_ext", "_templates", "*.txt", "pyproject.toml")
# No cell reads how long the last run took; _ext/head.py does, and tells Sphinx.
NOT_READ = {"notebooks.json"}


def fingerprint():
    """Digest of the contents of INPUTS; times of files play no part."""
    files = {
        file
        for pattern in INPUTS
        for path in ROOT.glob(pattern)
        for file in [path, *path.rglob("*")]
        if file.is_file() and not {"__pycache__", *NOT_READ} & {*file.parts}
    }
    digest = hashlib.sha256(sys.version.encode())
    for file in sorted(files):
        digest.update(file.relative_to(ROOT).as_posix().encode())
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def empty(folder):
    """Leave an empty folder there; a link to one stays a link."""
    folder.mkdir(exist_ok=True)
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def main():
    if (wanted := os.environ.get("SOLUTIONS", "1")) not in ("0", "1"):
        sys.exit(f"SOLUTIONS={wanted}: expected 0, for a book without answers, or 1.")
    stamp = BUILD / "inputs.sha256"
    inputs = fingerprint()
    if not stamp.exists() or stamp.read_text() != inputs:
        empty(BUILD)
        stamp.write_text(inputs)
    # Not the script in .venv/bin, which a copy of this folder has of the original.
    run = "from jupyter_book.cli.main import main; main()"
    program = [sys.executable, "-c", run]
    solutions = wanted == "1"
    folder = ROOT if solutions else BUILD / "no-solutions"
    options = ["-n", "-W", "--keep-going", "--path-output", folder]
    if subprocess.run([*program, "build", *options, ROOT]).returncode:
        # Sphinx reports a page's warnings when it reads the page, and the next
        # run reads changed pages only: without this it would pass.
        shutil.rmtree(folder / "_build" / ".doctrees", ignore_errors=True)
        sys.exit("The book was not built: see the warnings above.")
    html = BUILD / "html"
    if not solutions:
        html = BUILD / "html-no-solutions"
        shutil.rmtree(html, ignore_errors=True)
        shutil.copytree(folder / "_build" / "html", html)
    print(f"The book is in {html / 'index.html'}")


if __name__ == "__main__":
    main()

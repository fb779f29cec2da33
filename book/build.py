"""Build the book into _build/html: `python -m book.build`.

With SOLUTIONS=0 in the environment, into _build/html-no-solutions and without the
answers to the exercises: see extensions/solutions.py.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "_build"

# What the pages depend on beside their own source. Neither jupyter-cache, whose key is
# a notebook's code, nor Sphinx, which looks at a page's file, sees it.
INPUTS = ("d2l_dense", "results", "book/extensions", "book/templates", "*.txt")


def fingerprint():
    """Digest of the contents of INPUTS; times of files play no part."""
    digest = hashlib.sha256(sys.version.encode())
    places = [path for pattern in INPUTS for path in ROOT.glob(pattern)]
    for file in sorted(f for place in places for f in [place, *place.rglob("*")]):
        if file.is_file() and "__pycache__" not in file.parts:
            digest.update(file.relative_to(ROOT).as_posix().encode())
            digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def main():
    if (wanted := os.environ.get("SOLUTIONS", "1")) not in ("0", "1"):
        sys.exit(f"SOLUTIONS={wanted}: expected 0, for a book without answers, or 1.")
    stamp, inputs = BUILD / "inputs.sha256", fingerprint()
    if not stamp.exists() or stamp.read_text() != inputs:
        for name in (".jupyter_cache", ".doctrees", "html", "no-solutions"):
            shutil.rmtree(BUILD / name, ignore_errors=True)
        BUILD.mkdir(exist_ok=True)
        stamp.write_text(inputs)
    # Not the script in .venv/bin, which a copy of this folder has of the original.
    run = "from jupyter_book.cli.main import main; main()"
    folder = ROOT if wanted == "1" else BUILD / "no-solutions"
    options = ["-n", "-W", "--keep-going", "--path-output", folder]
    command = [sys.executable, "-c", run, "build", *options, ROOT]
    if subprocess.run(command).returncode:
        # Sphinx reports a page's warnings when it reads the page, and the next run
        # reads changed pages only: without this it would pass.
        shutil.rmtree(folder / "_build" / ".doctrees", ignore_errors=True)
        sys.exit("The book was not built: see the warnings above.")
    # Sphinx copies these only where a page has changed.
    static = folder / "_build" / "html" / "_static"
    shutil.copytree(ROOT / "book" / "static", static, dirs_exist_ok=True)
    html = BUILD / "html"
    if wanted == "0":
        html = BUILD / "html-no-solutions"
        shutil.rmtree(html, ignore_errors=True)
        shutil.copytree(folder / "_build" / "html", html)
    print(f"The book is in {html / 'index.html'}")


if __name__ == "__main__":
    main()

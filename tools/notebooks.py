"""Execute notebooks in place, each from top to bottom in a fresh kernel.

Without arguments: every notebook of chapters/.
"""

import os
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

CHAPTERS = Path(__file__).resolve().parent.parent / "chapters"


def execute(path):
    """Run one notebook; replace its file only when it ran through."""
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",
        record_timing=False,  # it would differ at every run
        coalesce_streams=True,
        resources={"metadata": {"path": str(path.parent)}},
    ).execute()
    # The same on every machine, so that a diff shows what changed.
    notebook.metadata["kernelspec"] = {
        "display_name": "Python 3",
        "language": "python",
        "name": "python3",
    }
    notebook.metadata["language_info"] = {"name": "python"}
    new = path.with_suffix(".tmp")
    nbformat.write(notebook, new)
    os.replace(new, path)


def main():
    paths = [Path(argument).resolve() for argument in sys.argv[1:]]
    for path in paths or sorted(CHAPTERS.glob("*.ipynb")):
        start = time.monotonic()
        try:
            execute(path)
        except CellExecutionError as error:
            sys.exit(f"{error}\n{path.name} did not run through; it is as before.")
        print(f"{path.name}: {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()

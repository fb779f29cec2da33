"""Execute notebooks in place, each from top to bottom in a fresh kernel.

`python -m book.notebooks` for all of chapters/, or with the names of some.
"""

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from d2l_dense.files import replace_file

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
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook.metadata |= {"kernelspec": kernel, "language_info": {"name": "python"}}
    replace_file(path, nbformat.writes(notebook).encode() + b"\n")


def main(paths):
    for path in paths or sorted(CHAPTERS.glob("*.ipynb")):
        try:
            execute(path)
            print(f"{path.name} ran through.", flush=True)
        except FileNotFoundError:
            sys.exit(f"{path}: there is no such notebook.")
        except CellExecutionError as error:
            sys.exit(f"{error}\n{path.name} did not run through; it is as before.")


if __name__ == "__main__":
    main([Path(name).resolve() for name in sys.argv[1:]])

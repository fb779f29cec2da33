"""Execute notebooks in place, each from top to bottom in a fresh kernel.

Without arguments: every notebook of chapters/. What a run of a chapter took goes into
results/notebooks.json, by chapter and type of device; the pages show it.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from d2l_dense.checkpoint import replace_file
from d2l_dense.engine import make_fabric
from experiments.provenance import provenance

ROOT = Path(__file__).resolve().parent.parent
CHAPTERS = ROOT / "chapters"
RECORD = ROOT / "results" / "notebooks.json"


def execute(path):
    """Run one notebook; replace its file only when it ran through.

    Returns the seconds that it took, the start of the kernel among them, and the
    kernel's largest resident memory in bytes (None where the system does not tell).
    """
    notebook = nbformat.read(path, as_version=4)
    memory = []
    client = NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",
        record_timing=False,  # it would differ at every run
        coalesce_streams=True,
        resources={"metadata": {"path": str(path.parent)}},
        on_cell_executed=lambda **_: memory.append(resident(client)),
    )
    start = time.monotonic()
    client.execute()
    seconds = time.monotonic() - start
    # The same on every machine, so that a diff shows what changed.
    notebook.metadata["kernelspec"] = {
        "display_name": "Python 3",
        "language": "python",
        "name": "python3",
    }
    notebook.metadata["language_info"] = {"name": "python"}
    replace_file(path, nbformat.writes(notebook).encode() + b"\n")
    return seconds, memory[-1] if memory else None


def resident(client):
    """Bytes of the most memory that the kernel has held so far; None if unknown."""
    status = Path("/proc", str(client.km.provisioner.pid), "status")
    if not status.exists():  # there is no /proc but on Linux
        return None
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return int(lines["VmHWM"].split()[0]) * 1024


def hardware():
    """What a record says of the machine, in the words of the other records."""
    fabric, precision = make_fabric("auto", "auto")
    found = provenance(fabric.device, precision)
    return {key: found[key] for key in ("device", "versions", "date")}


def record(path, run, place):
    """Put the run of a chapter beside the others, in one step."""
    runs = json.loads(place.read_text("utf-8")) if place.exists() else {}
    runs.setdefault(path.stem, {})[run["device"]["type"]] = run
    text = json.dumps(runs, indent=1, sort_keys=True) + "\n"
    replace_file(place, text.encode())


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("notebooks", nargs="*", type=Path, help="which (all chapters)")
    parser.add_argument("--note", help="what a reader of the times must know")
    options = parser.parse_args()
    paths = [path.resolve() for path in options.notebooks]
    for path in paths:
        if not path.is_file():
            parser.error(f"{path}: there is no such notebook")
    machine = hardware()
    for path in paths or sorted(CHAPTERS.glob("*.ipynb")):
        try:
            seconds, memory = execute(path)
        except CellExecutionError as error:
            sys.exit(f"{error}\n{path.name} did not run through; it is as before.")
        print(f"{path.name}: {seconds:.0f} s")
        if path.parent == CHAPTERS:
            run = {"seconds": round(seconds, 1), "peak_bytes": memory, **machine}
            record(path, run | ({"note": options.note} if options.note else {}), RECORD)


if __name__ == "__main__":
    main()

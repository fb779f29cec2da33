"""Run every exported notebook where only Colab's packages are (`make colab-check`).

One environment holds what Colab brings of our needs; each notebook gets another
on top of it, and a folder with nothing but itself and the package's wheel. Its
first cell has to install the rest, and may change nothing of what was there.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = ROOT / "_build" / "html" / "notebooks"
FOLDER = ROOT / "_build" / "colab-check"

# What Colab lists in its own `pip freeze`, less what our set-up cell may as
# well install there. Not pinned: Colab takes new releases as they come.
COLAB = ["torch", "torchvision", "numpy", "pandas", "matplotlib", "scipy"]
COLAB += ["scikit-learn", "ipykernel"]


def find_python():
    """The Python that Colab runs, where there is one."""
    for name in (os.environ.get("PYTHON"), "python3.12", "python3"):
        path = shutil.which(name or "")
        # Where several versions are installed, a name may be there and not work.
        if (
            path
            and not subprocess.run([path, "-c", ""], capture_output=True).returncode
        ):
            return path
    sys.exit("No Python found: name one with make PYTHON=/path/to/python3.12.")


def make_base(python):
    """Make the environment that stands for Colab; return its Python."""
    base = FOLDER / "colab"
    subprocess.run([python, "-m", "venv", "--clear", base], check=True)
    pip = [base / "bin" / "python", "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, *COLAB], check=True, env=environment())
    return base / "bin" / "python"


def make_layer(base, folder):
    """Make an environment on top of the base: what pip installs goes there."""
    layer = folder / "env"
    subprocess.run([base, "-m", "venv", "--without-pip", layer], check=True)
    Path(packages(layer / "bin" / "python"), "base.pth").write_text(packages(base))
    kernel = folder / "jupyter" / "kernels" / "layer"
    kernel.mkdir(parents=True)
    python = str(layer / "bin" / "python")
    argv = [python, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec = {"argv": argv, "display_name": "layer", "language": "python"}
    (kernel / "kernel.json").write_text(json.dumps(spec))
    return layer / "bin" / "python"


def packages(python):
    """The folder that a Python's packages are installed into."""
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    return subprocess.check_output([python, "-c", code], text=True).strip()


def names(folder):
    """The packages that are installed in a folder."""
    found = (info.name.split("-")[0] for info in Path(folder).glob("*.dist-info"))
    return {name.lower().replace("_", "-") for name in found}


def environment():
    """This one, less what would lead Python to our own packages."""
    ours = ("PYTHON", "VIRTUAL_ENV", "JUPYTER")
    return {k: v for k, v in os.environ.items() if not k.startswith(ours)}


def check(path, base):
    """Run one notebook; return how many seconds it took."""
    folder = FOLDER / path.stem
    work = folder / "work"
    work.mkdir(parents=True)
    for file in (path, *NOTEBOOKS.glob("*.whl")):
        shutil.copy(file, work)
    python = make_layer(base, folder)
    os.environ["JUPYTER_PATH"] = str(folder / "jupyter")
    notebook = nbformat.read(work / path.name, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=1800,
        kernel_name="layer",
        resources={"metadata": {"path": str(work)}},
    )
    start = time.monotonic()
    client.execute(env=environment())
    seconds = time.monotonic() - start
    if changed := names(packages(python)) & names(packages(base)):
        sys.exit(f"{path.name} replaced {', '.join(sorted(changed))}.")
    return seconds


def main():
    paths = sorted(NOTEBOOKS.glob("*.ipynb"))
    if not paths:
        sys.exit("There are no exported notebooks yet: run make book first.")
    shutil.rmtree(FOLDER, ignore_errors=True)
    base = make_base(find_python())
    for path in paths:
        try:
            print(f"{path.name}: {check(path, base):.0f} s", flush=True)
        except CellExecutionError as error:
            sys.exit(f"{error}\n{path.name} did not run through.")
    shutil.rmtree(FOLDER)


if __name__ == "__main__":
    main()

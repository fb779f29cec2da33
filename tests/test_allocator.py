"""d2l_dense/allocator.py: pages that need not be cleared again."""

import os
import platform
import subprocess
import sys

import pytest
import torch
from d2l import torch as d2l

import d2l_dense.allocator
from d2l_dense import trainer

STEPS = """
import resource, torch
from d2l_dense.allocator import keep_freed_memory
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.zeros(64 * 2**18)  # 64 MiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
left_alone = faults()
assert keep_freed_memory()
faults()
print(left_alone, faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc alone")
def test_large_tensors_are_made_of_pages_that_are_there():
    """Counted, not timed: a page that the system clears is a fault."""
    command = sys.executable, "-c", STEPS
    tuning = ("GLIBC_TUNABLES", "MALLOC_")
    clean = {k: v for k, v in os.environ.items() if not k.startswith(tuning)}
    done = subprocess.run(
        command, env=clean, capture_output=True, text=True, check=True
    )
    left_alone, kept = map(int, done.stdout.split())
    assert kept < left_alone / 10


def test_another_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert not d2l_dense.allocator.keep_freed_memory()


@pytest.mark.parametrize("name", ["GLIBC_TUNABLES", "MALLOC_ARENA_MAX"])
def test_a_process_that_is_tuned_is_left_alone(monkeypatch, name):
    monkeypatch.setenv(name, "1")
    assert not d2l_dense.allocator.keep_freed_memory()


def test_only_training_asks_for_it(monkeypatch):
    asked = []
    monkeypatch.setattr(trainer, "keep_freed_memory", lambda: asked.append(True))
    ours = trainer.Trainer(max_epochs=1, accelerator="cpu", progress=False)
    assert not asked
    data = d2l.SyntheticRegressionData(w=torch.ones(3), b=0.0)
    ours.fit(d2l.LinearRegression(lr=0.01), data)
    assert asked

"""d2l_dense/allocator.py: pages that need not be cleared again."""

import platform
import subprocess
import sys

import pytest

import d2l_dense.allocator

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
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    left_alone, kept = map(int, done.stdout.split())
    assert kept < left_alone / 10


def test_another_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert not d2l_dense.allocator.keep_freed_memory()

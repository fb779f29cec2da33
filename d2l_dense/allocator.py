"""Keep the memory that a training step frees for the step after it."""

import ctypes
import os
import platform

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # options of mallopt, from malloc.h


def keep_freed_memory() -> bool:
    """Tell the C library to keep what is freed; return whether it will.

    Left alone, glibc takes each tensor of 32 MiB or more from the system and gives
    it back when it is freed. The system clears every page at its first touch, so a
    training step on a CPU spends a good part of its time on memory that it had a
    moment ago. Afterwards the process stays as large as it ever was, or larger where
    what it asks for keeps growing and fits no gap that was freed. Libraries other than
    glibc are left as they are, and so is a process whose environment tunes it.
    """
    tuned = any(n == "GLIBC_TUNABLES" or n.startswith("MALLOC_") for n in os.environ)
    if tuned or platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    never, none = -1, 0  # trim; from a mapping of its own
    return bool(mallopt(_TRIM_THRESHOLD, never) and mallopt(_MMAP_MAX, none))

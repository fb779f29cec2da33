"""Keep the memory that a training step frees for the step after it."""

import ctypes
import platform

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # options of mallopt, from malloc.h


def keep_freed_memory() -> bool:
    """Tell the C library to keep what is freed; return whether it will.

    Left alone, glibc takes each tensor of 32 MiB or more from the system and gives
    it back when it is freed. The system clears every page at its first touch, so a
    training step on a CPU spends a good part of its time on memory that it had a
    moment ago. Afterwards the process stays as large as it ever was. Libraries
    other than glibc are left as they are.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    never, none = -1, 0  # trim; from a mapping of its own
    return bool(mallopt(_TRIM_THRESHOLD, never) and mallopt(_MMAP_MAX, none))

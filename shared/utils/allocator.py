"""What the C library does with freed memory, in a process that takes and frees megabytes all the time."""

import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
KEPT = 2**30  # bytes


def keep_freed_memory() -> bool:
    """Let glibc keep freed blocks of up to 1 GiB for the next that asks, rather than give them back to the system,
    which zeroes every page anew. Whether there is a glibc: other libraries have ways of their own."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and all(mallopt(which, KEPT) for which in (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD))

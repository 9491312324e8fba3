"""What the C library does with freed memory, in a process that takes and frees megabytes all the time."""

import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, MOST = -1, -3, 2**31 - 1  # of glibc's malloc.h; an int
MADV_HUGEPAGE, HUGE_PAGE, PAGE = 14, 2**21, 2**12


def keep_freed_memory() -> bool:
    """Let glibc keep freed memory for the next that asks, rather than give it back to the system, which zeroes every
    page anew; and let the system keep it in pages of 2 MiB, if it does so when asked. Whether there is a glibc: other
    libraries have ways of their own. For the start of a process that computes; docs/performance.md tells its worth."""
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt") or not all(libc.mallopt(one, MOST) for one in (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD)):
        return False
    libc.malloc.restype = ctypes.c_void_p
    libc.malloc.argtypes = [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    size = MOST - 2 * HUGE_PAGE  # of addresses: nothing of it is memory before it is written to
    if block := libc.malloc(size):
        first = -(-block // HUGE_PAGE) * HUGE_PAGE
        libc.madvise(first, (block + size - first) // PAGE * PAGE, MADV_HUGEPAGE)
        libc.free(block)
    return True

"""How this process uses the memory that it frees."""

import ctypes
from contextlib import suppress

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


def keep_freed_memory() -> None:
    """Let this process keep what it frees, where the C library is glibc.

    Large tensors come and go at every gradient step; giving their pages back to the system and asking for them again
    takes up to a quarter of its time.
    """
    with suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        for option in (_TRIM_THRESHOLD, _MMAP_THRESHOLD):
            library.mallopt(option, 1 << 30)

"""What standard settings of Python and the C library cost with millions of records, or with big arrays."""

from __future__ import annotations

import ctypes
import gc
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h


@contextmanager
def no_search_for_cycles() -> Iterator[None]:
    """Meanwhile Python doesn't look for objects that hold each other: among millions of records, which don't, that
    takes longer than all that is done with them."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


@cache
def keep_freed_memory() -> None:
    """From now on this process keeps the memory that it frees, and takes its next arrays from there.

    As it is set, glibc hands every big block back to the system and gets each new one zeroed page by page: a tenth to a
    fifth of what a network takes on a CPU. Does nothing with another C library.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, -1)

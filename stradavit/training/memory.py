"""Freed memory is kept by the process instead of being handed back to the system."""

import ctypes

# Numbers of glibc's malloc.h.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
_LARGEST = 2**31 - 1
_AHEAD_BYTES = 256 << 20


def keep_freed_memory() -> bool:
    """Let glibc serve large tensors from memory freed before; False where there is no glibc.

    By default the tensors of every step come as fresh pages from the system, are cleared one by
    one when first written to, and go back at once: a tenth of a training step on a processor. It
    holds for the rest of the process, whose memory then stays at its largest. A GPU has an
    allocator of its own.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # another C library, another system
        return False
    wanted = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, _LARGEST), (_TOP_PAD, _AHEAD_BYTES))
    return all(mallopt(name, value) == 1 for name, value in wanted)

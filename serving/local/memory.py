"""Gives memory back to the system after the two things that need a lot of it for a moment.

An unloaded graph is a web of cycles, which only the garbage collector frees; and what a huge
message took, the C library keeps for the next one. Neither is a leak, but both look like one.
"""

from __future__ import annotations

import ctypes
import gc
import threading
from typing import Final

BIG_MESSAGE: Final = 32 << 20
"""Bytes of a message from which giving memory back is worth the few milliseconds it takes."""

_DELAY_SECONDS: Final = 1.0

_lock = threading.Lock()
_planned = False
_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc only


def give_back_soon() -> None:
    """Free unused memory in a moment: the caller still holds some of it now."""
    global _planned
    with _lock:
        if _planned:
            return
        _planned = True
    timer = threading.Timer(_DELAY_SECONDS, _give_back)
    timer.daemon = True
    timer.start()


def _give_back() -> None:
    global _planned
    with _lock:
        _planned = False
    gc.collect()
    if _trim is not None:
        _trim(0)

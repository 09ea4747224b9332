"""Returns memory to the system after the two operations that briefly need much of it.

Only the garbage collector frees an unloaded graph, which is full of reference cycles; and the C
library keeps the memory of a huge message for the next one. Both look like leaks but are not.
"""

import ctypes
import gc
import threading
from typing import Final

BIG_MESSAGE: Final = 32 << 20
"""From this message size on, returning memory is worth the few milliseconds it takes."""

_idle = threading.Semaphore(1)
_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc only


def give_back_soon() -> None:
    """Frees unused memory a little later, as the caller still holds some of it."""
    if _idle.acquire(blocking=False):
        timer = threading.Timer(1.0, _give_back)
        timer.daemon = True
        try:
            timer.start()
        except RuntimeError:  # no thread to be had: the next time
            _idle.release()


def _give_back() -> None:
    _idle.release()
    gc.collect()
    if _trim is not None:
        _trim(0)

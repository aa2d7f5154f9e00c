"""The heap of the C library, from which Python and numpy take their memory."""

import ctypes


def trim_heap() -> None:
    """Give back to the system what was freed. To be called where much was needed that is not needed again.

    The C library of GNU keeps what several threads have used and freed, and finds little of it again when the next work is of
    another kind (malloc_trim(3)). Other C libraries have no such call, and nothing happens.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(ctypes.c_size_t(0))

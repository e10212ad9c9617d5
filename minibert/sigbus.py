"""The one end of a process that Python does not see coming, in words.

The weights are mapped: a page of model.safetensors is read when it is first used. Where somebody has cut the file off
meanwhile, there is no such page, and the system sends the signal SIGBUS to the thread that asked for it, which is amid a
matrix product. A handler of Python's own would have to wait until that is done, and it never is. So the handler is a
function of C's kind, which runs at once; PyTorch's operators hold no lock of Python's that it would have to wait for.
"""

import ctypes
import os
import signal
from threading import Lock

ONCE = Lock()
SENTENCE = (
    b"minibert: model.safetensors was changed on disk while it was in use, and what is to be computed next is gone; run the "
    b"command again, and replace a checkpoint by renaming, never in place.\n"
)


def _end(_signal: int) -> None:
    ONCE.acquire()  # a second thread that comes here waits until the process is gone
    os.write(2, SENTENCE)
    os._exit(1)


END = ctypes.CFUNCTYPE(None, ctypes.c_int)(_end)  # kept, for C keeps no reference to it


def end_in_words() -> None:
    """From now on, SIGBUS ends the process with one sentence on standard error and status 1; where there is no SIGBUS, nothing."""
    if hasattr(signal, "SIGBUS"):
        ctypes.CDLL(None).signal(signal.SIGBUS, END)

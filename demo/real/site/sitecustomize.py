"""Makes a vLLM process end when its parent process has ended for any reason.

When vLLM's API server is killed with SIGKILL, its engine and its worker keep running with all their memory.
Python imports this module at startup if this folder is on PYTHONPATH, which child processes inherit.
Linux only.
"""  # noqa: INP001 - found by its folder, never imported from a package

import ctypes
import signal

_PR_SET_PDEATHSIG = 1

ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

"""Makes a vLLM process end when the process that started it has ended, in whatever way.

Killed outright, vLLM's API server leaves its engine and workers behind: they keep their gigabytes and ignore
SIGTERM. Python imports this module at its start where this folder is on PYTHONPATH, as it is for our servers and,
by inheritance, for what they start. Linux only; it refuses to do anything else.
"""

import ctypes
import signal

_PR_SET_PDEATHSIG = 1

ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

"""Makes a vLLM process end when the process that started it has ended, in whatever way.

vLLM's API server, killed outright, leaves its engine and its worker behind with all their memory. Python
imports this module at its start where this folder is on PYTHONPATH: in our servers, and by inheritance in
what they start. Linux only; it refuses to do anything else.
"""  # noqa: INP001 - found by its folder, never imported from a package

import ctypes
import signal

_PR_SET_PDEATHSIG = 1

ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

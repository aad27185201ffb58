"""The collector: captured exchanges in, evidence out.

A proxy records what users asked and were answered (the primary leg) and what the shadow answered to a copy of
the same request (the shadow leg). This program pairs the two, compares them, keeps both and adds them up.

It refuses to be in anybody's way: what it cannot take it drops and counts by reason, and no proxy ever waits
for it. It shares no code with the control plane.
"""

from __future__ import annotations

from typing import Final

__all__ = ["__version__"]

__version__: Final = "0.1.0"

"""The shadow collector: receives captured exchanges and serves evidence about two variants.

A proxy captures each request of a client with its response (the primary leg), and the response of the shadow
variant to a copy of the request (the shadow leg). The collector pairs the legs, compares the two answers,
stores pairs and comparisons, and adds up the results::

    receive -> exchange -> compare -> store -> serve | consumers

The collector never delays a proxy: legs it cannot process are dropped and counted by reason. It shares no
code with the control plane.
"""

from __future__ import annotations

from typing import Final

__all__ = ["__version__"]

__version__: Final = "0.1.0"

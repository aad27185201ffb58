"""The control plane: configures Envoys over xDS, and moves users from one model to another.

Read `xds_server.app` first; it builds everything. This package root imports nothing, so that a command pays
only for what it uses.
"""

from __future__ import annotations

from typing import Final

__all__ = ["__version__"]

__version__: Final = "0.1.0"

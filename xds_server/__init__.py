"""The control plane: configures Envoys over xDS, and moves users from one model to another.

Read `xds_server.app` first; it builds everything. This package root imports no other module of the
package, so that a command loads only what it uses.
"""

from __future__ import annotations

from typing import Final

__all__ = ["__version__"]

__version__: Final = "0.1.0"

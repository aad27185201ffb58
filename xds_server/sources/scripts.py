"""Load the Lua scripts for proxies from the installed package or from the source checkout."""

from __future__ import annotations

from pathlib import Path

from xds_server.translate import Scripts

__all__ = ["load_scripts"]


def load_scripts() -> Scripts:
    """Read the scripts.

    Raises:
        FileNotFoundError: The installation is incomplete.
    """
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "_envoy" / "lua", package.parent / "envoy" / "lua"):
        if folder.is_dir():
            return Scripts(
                capture=(folder / "capture.lua").read_text(encoding="utf-8"),
                rewrite=(folder / "rewrite.lua").read_text(encoding="utf-8"),
            )
    raise FileNotFoundError("the Lua scripts are missing from this installation: install shiftplane again")

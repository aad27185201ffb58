"""Programs from Debian packages, installed on demand where the user may install packages."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

__all__ = ["program"]

_LOCK = Path(tempfile.gettempdir()) / "shiftplane-apt.lock"


def program(package: str, name: str) -> Path:
    """Return the path of a program of a package; skip the test if it cannot be installed."""
    with _LOCK.open("w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if shutil.which(name) is None:
            _install(package)
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{package} has no program {name}")
    return Path(found)


def _install(package: str) -> None:
    if shutil.which("apt-get") is None:
        pytest.skip(f"{package} is a Debian package, and this is no Debian")
    as_root = [] if os.geteuid() == 0 else ["sudo", "-n"]
    # In single-user runlevel, installing a package does not start its daemon.
    settings = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    install = ["apt-get", "install", "-y", "-q", "--no-install-recommends", package]
    words = ""
    for command in (install, ["apt-get", "update", "-q"], install):
        done = subprocess.run(
            [*as_root, *command], capture_output=True, text=True, timeout=300, check=False, env=settings
        )
        if done.returncode == 0 and command is install:
            return
        words = done.stderr[-300:]
    pytest.skip(f"{package} cannot be installed: {words}")

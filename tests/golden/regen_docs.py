"""Regenerate the parts of the docs that are generated from the code, and the pictures."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.support.drawn import PICTURES, ROOT, generated_pages, regenerate

if __name__ == "__main__":
    for path in generated_pages():
        file = ROOT / path
        file.write_text(regenerate(file.read_text(encoding="utf-8")), encoding="utf-8")
    for path, draw in PICTURES.items():
        (ROOT / path).write_text(draw(), encoding="utf-8")

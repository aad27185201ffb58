"""Regenerate the messages of invalid notification settings."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.support.notices import NOTIFY, messages

if __name__ == "__main__":
    (NOTIFY / "bad.txt").write_text(messages(), encoding="utf-8")

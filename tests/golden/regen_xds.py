"""Regenerate the resources of every golden case; delete files that belong to no case."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.support.goldens import GOLDEN, cases, rendered


def main() -> None:
    """Rewrite the folder."""
    shutil.rmtree(GOLDEN / "out", ignore_errors=True)
    for case in cases():
        case.folder.mkdir(parents=True)
        for name, text in rendered(case).items():
            (case.folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

"""Regenerate the messages of all invalid specs; delete messages without a spec."""

from __future__ import annotations

from pathlib import Path

from xds_server.spec import check_together, load

FOLDER = Path(__file__).resolve().parent / "bad_specs"


def messages(path: Path) -> str:
    """Return all problems of a file, one per line."""
    loaded = load(path.read_text(encoding="utf-8"), file=path.name)
    return "".join(f"{problem}\n" for problem in (*loaded.problems, *check_together([loaded])))


def main() -> None:
    """Rewrite the folder."""
    for path in FOLDER.glob("*.txt"):
        path.unlink()
    for path in sorted(FOLDER.glob("*.yaml")):
        path.with_suffix(".txt").write_text(messages(path), encoding="utf-8")


if __name__ == "__main__":
    main()

"""Names, docstrings, comments, strings and pages use the terms of the glossary."""

from __future__ import annotations

from pathlib import Path

from tests.support.vocabulary import BANNED, find, find_all

ROOT = Path(__file__).resolve().parents[2]
PLACES = (
    *("xds_server", "mirror_collector", "demo", "bench", "tests", "docs", "k8s", "envoy", "protos"),
    *("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "Makefile", "Dockerfile", "pyproject.toml"),
)


def test_no_banned_word_is_used() -> None:
    hits = list(find_all(*(ROOT / place for place in PLACES)))
    assert not hits, "\n".join(str(hit) for hit in hits)


def test_the_check_finds_every_place_of_a_word(tmp_path: Path) -> None:
    file = tmp_path / "sample.py"
    file.write_text('"""The docket."""\n\nWorldCourt = 1  # told\nkeep_deeds = "somebody"\n')
    found = [(hit.line, hit.kind, hit.word) for hit in find(file)]
    assert found == [
        (1, "string", "docket"),
        (3, "name", "world"),
        (3, "name", "court"),
        (3, "comment", "told"),
        (4, "name", "deeds"),
        (4, "string", "somebody"),
    ]
    assert {word for _, _, word in found} <= BANNED

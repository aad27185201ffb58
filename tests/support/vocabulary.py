"""Find words of the vocabulary's banned list in names, docstrings, comments, strings and pages.

Run it by hand on files or folders: `python -m tests.support.vocabulary xds_server/rollout docs`.
"""

from __future__ import annotations

import io
import keyword
import re
import sys
import tokenize
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["BANNED", "EXEMPT_FILES", "Hit", "find", "find_all"]

_LIST: Final = """
world worlds court courts docket dockets desk desks deed deeds keeper keepers ruling rulings
likeness likenesses patience pulse pulses tally tallies tallied unbuilt told tell tells telling hear
hears heard hearing owe owed owes said vital vitality courier couriers acceptor
acceptors resemblance nobody somebody anybody everybody whoever whomever noes liken likened
"""
BANNED: Final = frozenset(_LIST.split())
"""Words of the project's former private dialect, and verbs that make a program a person."""

EXEMPT_FILES: Final = (
    *("docs/adr/", "CHANGELOG.md"),
    *("tests/support/vocabulary.py", "tests/architecture/test_vocabulary.py"),
)
"""Records of the past, and the list itself."""

INTERFACES: Final = frozenset(
    {
        *("likeness", "patience", "--acceptors", "acceptors", "likeness-vllm"),
        *("nobody.invalid", "entry/nobody.invalid"),
        *("shiftplane_xds_worlds_failed", "shiftplane_xds_worlds_failed_total"),
        *("shiftplane_xds_acceptors", "ShiftplaneWorldNotBuilt", "shiftplaneworldnotbuilt"),
    }
)
"""Names that operators, proxies or stores use already: JSON keys, flags, series, resources."""

_INTERFACE: Final = re.compile(
    "|".join(
        rf"(?<![\w-]){re.escape(name)}(?![\w-])"
        for name in sorted(INTERFACES - {"patience"}, key=len, reverse=True)
    )
)
_SAMPLE_TEXT: Final = re.compile(
    r"state[- ]of[- ]the[- ]world"
    r"|h[eu]llo,? (there )?world|tax law and courts|You said: I am|tell me a long story",
    re.IGNORECASE,
)
"""xDS's own term, and what users and models of the tests write."""

_STORED: Final = {
    "mirror_collector/store/": frozenset({"tally", "tallies"}),
    "tests/collector/": frozenset({"tally", "tallies"}),
}
"""Words in names of tables and columns, by the folder whose strings hold them."""

_WORD: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_TEXT_FILES: Final = frozenset({".md", ".html", ".yaml", ".proto", ".js", ".css", ".lua", ".toml"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """One banned word: `kind` is name, comment, string or text."""

    file: Path
    line: int
    kind: str
    word: str
    excerpt: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.kind} {self.word!r}: {self.excerpt}"


def find_all(*roots: Path) -> Iterator[Hit]:
    """Yield every hit in the files and folders given."""
    for root in roots:
        files = [root] if root.is_file() else sorted(path for path in root.rglob("*") if path.is_file())
        for file in files:
            if not any(part in file.as_posix() for part in (*EXEMPT_FILES, "__pycache__", "_pb2")):
                yield from find(file)


def find(file: Path) -> Iterator[Hit]:
    """Yield every hit in one file; files that are neither Python nor text have none."""
    if file.suffix == ".py":
        yield from _python(file)
    elif file.suffix in _TEXT_FILES or file.name in {"Makefile", "Dockerfile"}:
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
            yield from _of(file, number, "text", line)


def _python(file: Path) -> Iterator[Hit]:
    text = file.read_text(encoding="utf-8")
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        start = token.start[0]
        if token.type == tokenize.NAME and not keyword.iskeyword(token.string):
            yield from _of(file, start, "name", token.string)
        elif token.type in {tokenize.COMMENT, tokenize.STRING}:
            kind = "comment" if token.type == tokenize.COMMENT else "string"
            for offset, line in enumerate(token.string.splitlines()):
                yield from _of(file, start + offset, kind, line)


def _of(file: Path, number: int, kind: str, text: str) -> Iterator[Hit]:
    stripped = text.strip("rbf\"'")
    if stripped in INTERFACES:
        return
    text = _INTERFACE.sub("", _SAMPLE_TEXT.sub("", text))
    stored = {word for folder, words in _STORED.items() if folder in file.as_posix() for word in words}
    for match in _WORD.finditer(text):
        word = match.group().lower()
        if word in BANNED and not (kind == "string" and word in stored):
            yield Hit(file=file, line=number, kind=kind, word=word, excerpt=text.strip()[:100])


def main() -> int:
    """Print the hits below the paths given; exit status 1 where there are any."""
    hits = list(find_all(*map(Path, sys.argv[1:] or ["."])))
    for hit in hits:
        print(hit)  # noqa: T201 - a command
    return bool(hits)


if __name__ == "__main__":
    sys.exit(main())

"""The code blocks of a page, and the commands in them."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["PAGES", "SHELL", "Block", "blocks", "commands", "inline", "lines"]

_ROOT: Final = Path(__file__).resolve().parents[3]
PAGES: Final = tuple(
    path.relative_to(_ROOT).as_posix()
    for path in (
        *sorted(_ROOT.glob("docs/**/*.md")),
        *(_ROOT / name for name in ("README.md", "CONTRIBUTING.md", "ARCHITECTURE.md", "k8s/README.md")),
    )
)
"""Every page whose commands and specs are checked."""

SHELL: Final = frozenset({"console", "bash", "sh", "shell"})
_FENCE: Final = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)
_INLINE: Final = re.compile(r"`([^`\n]+)`")
_SEPARATORS: Final = frozenset({"&&", "||", "|", ";", "&", "(", ")"})
_REDIRECTIONS: Final = frozenset({">", ">>", "<", "2>", "&>"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A code block: its page, first line, language and text."""

    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(page: str) -> list[Block]:
    """Return the code blocks of a page in their order."""
    text = (_ROOT / page).read_text(encoding="utf-8")
    return [
        Block(
            page=page,
            line=text.count("\n", 0, found.start()) + 1,
            language=found[2],
            text=re.sub(rf"^{found[1]}", "", found[3], flags=re.MULTILINE),
        )
        for found in _FENCE.finditer(text)
    ]


def inline(page: str) -> list[str]:
    """Return the inline code of a page."""
    text = (_ROOT / page).read_text(encoding="utf-8")
    return _INLINE.findall(_FENCE.sub("", text))


def lines(block: Block) -> list[str]:
    """Return the command lines of a block, with continuations joined and comments removed."""
    joined = block.text.replace("\\\n", " ")
    return [line for raw in joined.splitlines() if (line := _without_comment(raw))]


def commands(line: str) -> Iterator[list[str]]:
    """Yield the words of each command of a line, without redirections."""
    words: list[str] = []
    redirected = False
    for word in _tokens(line):
        if word in _SEPARATORS:
            if words:
                yield words
            words = []
        elif word in _REDIRECTIONS:
            redirected = True
        elif redirected:
            redirected = False
        else:
            words.append(word)
    if words:
        yield words


def _without_comment(line: str) -> str:
    return re.sub(r"(^|\s+)#.*", "", line).strip()


def _tokens(line: str) -> list[str]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    lexer.commenters = ""
    return list(lexer)

"""Read UTF-8 files and standard input; a failure is a one-line error with the path and the reason."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["UnreadableFileError", "read_text", "stdin_lines", "stdin_text"]

_STDIN = "<stdin>"


class UnreadableFileError(click.ClickException):
    """A file cannot be read, or a file or standard input is not UTF-8; the message has path and reason."""


def read_text(path: Path | str, *, name: str = "", expected: str = "", default: str | None = None) -> str:
    """Return the text of a file, or `default`, if given, for a file that does not exist.

    Two parameters only complete the error message: `name` is the setting that contains the path, such as an
    environment variable, and `expected` describes the content of a valid file.

    Raises:
        UnreadableFileError: The file cannot be read, or is not UTF-8.
    """
    place = f"{name}: {path}" if name else str(path)
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError as error:
        if default is not None:
            return default
        raise UnreadableFileError(f"{place}: {error.strerror}") from error
    except (OSError, ValueError) as error:  # A ValueError is a path that contains a null character.
        raise UnreadableFileError(f"{place}: {getattr(error, 'strerror', None) or error}") from error
    return _decoded(content, place, expected)


def stdin_text() -> str:
    """Return the text of standard input.

    Raises:
        UnreadableFileError: It is not UTF-8.
    """
    return _decoded(sys.stdin.buffer.read(), _STDIN, "")


def stdin_lines() -> Iterator[str]:
    """Yield the lines of standard input as they arrive, without their line breaks.

    Raises:
        UnreadableFileError: A line is not UTF-8.
    """
    for number, line in enumerate(sys.stdin.buffer, start=1):
        yield _decoded(line, f"{_STDIN}:{number}", "").rstrip("\r\n")


def _decoded(content: bytes, place: str, expected: str) -> str:
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        more = f"; expected {expected}" if expected else ""
        raise UnreadableFileError(f"{place}: not UTF-8 text (byte {error.start}){more}") from error
    return text.replace("\r\n", "\n")

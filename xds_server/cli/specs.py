"""Reading spec files for commands: files and folders in, documents and problems out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from xds_server.spec import Loaded, Problem

S = TypeVar("S")
S_co = TypeVar("S_co", covariant=True)

__all__ = ["problems_of", "read_settings", "read_specs", "report"]


class Load(Protocol[S_co]):
    """Reads a text: its settings, or None and everything that is wrong with it."""

    def __call__(
        self, text: str, *, file: str, read: Callable[[str], str]
    ) -> tuple[S_co | None, tuple[Problem, ...]]:
        """Read it."""


def read_specs(paths: Sequence[str]) -> list[Loaded]:
    """Load files, and the `*.yaml` and `*.yml` files of folders; `-` is standard input.

    Raises:
        click.ClickException: A path cannot be read, or a folder holds no spec.
    """
    from xds_server.spec import load

    loaded: list[Loaded] = []
    for path in _expand(paths):
        if path == "-":
            loaded.append(load(sys.stdin.read(), file="<stdin>"))
            continue
        try:
            text = Path(path).read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise click.ClickException(f"{path}: not UTF-8 text (byte {error.start})") from error
        except OSError as error:
            raise click.ClickException(f"{path}: {error.strerror or error}") from error
        loaded.append(load(text, file=path))
    return loaded


def problems_of(loaded: Sequence[Loaded]) -> list[Problem]:
    """Return every problem of the files alone and of the files together."""
    from xds_server.spec import check_together

    return [problem for one in loaded for problem in one.problems] + list(check_together(loaded))


def report(problems: Sequence[Problem], *, err: bool) -> int:
    """Print problems, errors in red in a terminal, and return how many are errors."""
    errors = 0
    for problem in problems:
        wrong = problem.severity.name == "ERROR"
        errors += wrong
        click.echo(click.style(str(problem), fg="red" if wrong else "yellow"), err=err)
    return errors


def _expand(paths: Sequence[str]) -> list[str]:
    found = []
    for path in paths:
        if path != "-" and Path(path).is_dir():
            inside = sorted(str(p) for p in Path(path).iterdir() if p.suffix in {".yaml", ".yml"})
            if not inside:
                raise click.ClickException(f"{path}: the folder holds no *.yaml file")
            found.extend(inside)
        else:
            found.append(path)
    return found


def read_settings(file: Path, load: Load[S], otherwise: str) -> S:
    """Read a file of settings and the files it names, which are looked for beside it.

    `otherwise` says what follows where there are problems.

    Raises:
        click.ClickException: There are problems; each was printed with its place.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise click.ClickException(f"{file}: not UTF-8 text (byte {error.start})") from error
    found, problems = load(
        text, file=str(file), read=lambda name: (file.parent / name).read_text(encoding="utf-8")
    )
    errors = report(problems, err=True)
    if found is None:
        raise click.ClickException(f"{file}: {errors} problem{'s' * (errors != 1)}, {otherwise}")
    return found

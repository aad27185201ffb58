"""Read spec and settings files for commands, and report their problems."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

import click

from xds_server.cli.files import read_text, stdin_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from xds_server.spec import Loaded, Problem

S = TypeVar("S")
S_co = TypeVar("S_co", covariant=True)

__all__ = ["problems_of", "read_settings", "read_specs", "report"]


class Load(Protocol[S_co]):
    """A parser of a settings file: returns the settings, None if they are invalid, and all problems."""

    def __call__(
        self, text: str, *, file: str, read: Callable[[str], str]
    ) -> tuple[S_co | None, tuple[Problem, ...]]:
        """Parse `text`; `read` returns the content of a file that the settings refer to."""


def read_specs(paths: Sequence[str]) -> list[Loaded]:
    """Load files, and the `*.yaml` and `*.yml` files of folders; `-` is standard input.

    Raises:
        click.ClickException: A path cannot be read or is not UTF-8, or a folder contains no spec.
    """
    from xds_server.spec import load

    loaded: list[Loaded] = []
    for path in _expand(paths):
        if path == "-":
            loaded.append(load(stdin_text(), file="<stdin>"))
        else:
            loaded.append(load(read_text(path), file=path))
    return loaded


def problems_of(loaded: Sequence[Loaded]) -> list[Problem]:
    """Return the problems of each file and the conflicts between files."""
    from xds_server.spec import check_together

    return [problem for one in loaded for problem in one.problems] + list(check_together(loaded))


def report(problems: Sequence[Problem], *, err: bool) -> int:
    """Print problems, errors in red in a terminal, and return the number of errors."""
    errors = 0
    for problem in problems:
        is_error = problem.severity.name == "ERROR"
        errors += is_error
        click.echo(click.style(str(problem), fg="red" if is_error else "yellow"), err=err)
    return errors


def _expand(paths: Sequence[str]) -> list[str]:
    files = []
    for path in paths:
        if path != "-" and Path(path).is_dir():
            inside = sorted(str(p) for p in Path(path).iterdir() if p.suffix in {".yaml", ".yml"})
            if not inside:
                raise click.ClickException(f"{path}: the folder contains no *.yaml or *.yml file")
            files.extend(inside)
        else:
            files.append(path)
    return files


def read_settings(file: Path, load: Load[S], consequence: str) -> S:
    """Read a settings file, and the files it refers to by paths relative to its folder.

    `consequence` is part of the error message and states the effect of invalid settings.

    Raises:
        click.ClickException: The file cannot be read or is not UTF-8, or its settings are invalid. Each
            problem of the settings was printed with its position.
    """
    settings, problems = load(
        read_text(file), file=str(file), read=lambda name: (file.parent / name).read_text(encoding="utf-8")
    )
    errors = report(problems, err=True)
    if settings is None:
        raise click.ClickException(f"{file}: {errors} problem{'s' * (errors != 1)}; {consequence}")
    return settings

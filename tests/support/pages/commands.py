"""The command-line reference, generated from the help texts: commands, options, defaults, examples."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Verb", "command_pages", "verbs"]

Verb = tuple[tuple[str, ...], click.Command]
_EVERYWHERE: Final = frozenset({"--help", "--version"})
_APART: Final = re.compile(r",\s+(?=(?:shiftplane|mirror-collector) )")
_EXAMPLE: Final = re.compile(r"(.*?)\s*\bExamples?:\s*(.+)", re.DOTALL)


def verbs(program: str, root: click.Command) -> Iterator[Verb]:
    """Yield the program and all its commands with their full names, groups before their members."""
    yield from _verbs((program,), root)


def command_pages(program: str, root: click.Command) -> str:
    """Return a section per command, in the order of the program's help."""
    return "\n\n".join(_section(words, command) for words, command in verbs(program, root))


def _verbs(words: tuple[str, ...], command: click.Command) -> Iterator[Verb]:
    yield words, command
    if isinstance(command, click.Group):
        context = click.Context(command, info_name=words[-1])
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            if found is not None and not found.hidden:
                yield from _verbs((*words, name), found)


def _section(words: tuple[str, ...], command: click.Command) -> str:
    context = click.Context(command, info_name=" ".join(words))
    usage = " ".join([*words, *command.collect_usage_pieces(context)])
    parts = [f"{'#' * min(len(words) + 1, 4)} {' '.join(words)}", f"`{usage}`", *_help(command)]
    rows = [row for parameter in command.get_params(context) if (row := _row(parameter, context))]
    if rows:
        parts.append("\n".join(["| option | default | |", "|---|---|---|", *rows]))
    if isinstance(command, click.Group):
        parts.append("\n".join(["| command | |", "|---|---|", *_listed(words, command, context)]))
    return "\n\n".join(part for part in parts if part)


def _listed(words: tuple[str, ...], group: click.Group, context: click.Context) -> Iterator[str]:
    for name in group.list_commands(context):
        found = group.get_command(context, name)
        if found is not None and not found.hidden:
            anchor = "-".join((*words, name))
            yield f"| [`{name}`](#{anchor}) | {_prose(found.get_short_help_str(limit=120))} |"


def _help(command: click.Command) -> Iterator[str]:
    for text in (command.help or "", command.epilog or ""):
        for paragraph in re.split(r"\n\s*\n", _dedent(text)):
            yield from _paragraph(paragraph)


def _dedent(text: str) -> str:
    return "\n".join(line.strip() for line in text.replace("\f", "").strip().splitlines())


def _paragraph(text: str) -> Iterator[str]:
    as_it_is = text.startswith("\b")
    said = text.removeprefix("\b").strip() if as_it_is else " ".join(text.split())
    found = _EXAMPLE.fullmatch(said)
    if found is not None:
        said, example = found[1], found[2]
        yield _prose(said)
        yield f"```console\n{_APART.sub(chr(10), example.strip())}\n```"
    elif as_it_is and said:
        yield f"```text\n{said}\n```"
    else:
        yield _prose(said)


def _row(parameter: click.Parameter, context: click.Context) -> str:
    if not isinstance(parameter, click.Option) or parameter.hidden or _EVERYWHERE & {*parameter.opts}:
        return ""
    names = ", ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))
    takes = "" if parameter.is_flag else f" `{parameter.make_metavar(context)}`"
    notes = [_prose(parameter.help or "")]
    if parameter.required:
        notes.append("Needed.")
    if parameter.multiple and "repeatable" not in (parameter.help or ""):
        notes.append("May be given more than once.")
    if isinstance(parameter.envvar, str) and parameter.envvar not in (parameter.help or ""):
        notes.append(f"Also `{parameter.envvar}`.")
    named = names + takes.replace("|", "\\|")
    return f"| {named} | {_default(parameter)} | {' '.join(filter(None, notes))} |"


def _default(option: click.Option) -> str:
    value: Any = option.default
    if isinstance(value, bool):
        return f"`{value}`".lower() if option.secondary_opts and value else ""
    unset = value is None or callable(value) or type(value).__name__ == "Sentinel" or value == ()
    return "" if unset or (option.flag_value == value and option.is_flag) else f"`{value}`"


def _prose(text: str) -> str:
    """Escape Markdown syntax outside of code."""
    return "".join(one if one.startswith("`") else _kept(one) for one in re.split(r"(`[^`]*`)", text))


def _kept(text: str) -> str:
    return re.sub(r"([*_|\[\]])", r"\\\1", text.replace("<", "&lt;").replace(">", "&gt;"))

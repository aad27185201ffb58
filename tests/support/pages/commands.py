"""Generate the reference of a command line from its help: commands, options, defaults and examples."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Command", "command_pages", "commands"]

Command = tuple[tuple[str, ...], click.Command]
_COMMON_OPTIONS: Final = frozenset({"--help", "--version"})
_NEXT_COMMAND: Final = re.compile(r",\s+(?=(?:shiftplane|mirror-collector) )")
_EXAMPLE: Final = re.compile(r"(.*?)\s*\bExamples?:\s*(.+)", re.DOTALL)


def commands(program: str, root: click.Command) -> Iterator[Command]:
    """Yield the program and all its commands with their names, groups before their subcommands."""
    yield from _commands((program,), root)


def command_pages(program: str, root: click.Command) -> str:
    """Return a section per command, in the order of the help."""
    return "\n\n".join(_section(names, command) for names, command in commands(program, root))


def _commands(names: tuple[str, ...], command: click.Command) -> Iterator[Command]:
    yield names, command
    if isinstance(command, click.Group):
        context = click.Context(command, info_name=names[-1])
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            if inner is not None and not inner.hidden:
                yield from _commands((*names, name), inner)


def _section(names: tuple[str, ...], command: click.Command) -> str:
    context = click.Context(command, info_name=" ".join(names))
    usage = " ".join([*names, *command.collect_usage_pieces(context)])
    parts = [f"{'#' * min(len(names) + 1, 4)} {' '.join(names)}", f"`{usage}`", *_help(command)]
    rows = [row for parameter in command.get_params(context) if (row := _row(parameter, context))]
    if rows:
        parts.append("\n".join(["| option | default | description |", "|---|---|---|", *rows]))
    if isinstance(command, click.Group):
        parts.append(
            "\n".join(["| command | description |", "|---|---|", *_subcommands(names, command, context)])
        )
    return "\n\n".join(part for part in parts if part)


def _subcommands(names: tuple[str, ...], group: click.Group, context: click.Context) -> Iterator[str]:
    for name in group.list_commands(context):
        inner = group.get_command(context, name)
        if inner is not None and not inner.hidden:
            anchor = "-".join((*names, name))
            yield f"| [`{name}`](#{anchor}) | {_escaped_prose(inner.get_short_help_str(limit=120))} |"


def _help(command: click.Command) -> Iterator[str]:
    for text in (command.help or "", command.epilog or ""):
        for paragraph in re.split(r"\n\s*\n", _dedent(text)):
            yield from _paragraph(paragraph)


def _dedent(text: str) -> str:
    return "\n".join(line.strip() for line in text.replace("\f", "").strip().splitlines())


def _paragraph(text: str) -> Iterator[str]:
    preformatted = text.startswith("\b")
    plain = text.removeprefix("\b").strip() if preformatted else " ".join(text.split())
    found = _EXAMPLE.fullmatch(plain)
    if found is not None:
        plain, example = found[1], found[2]
        yield _escaped_prose(plain)
        yield f"```console\n{_NEXT_COMMAND.sub(chr(10), example.strip())}\n```"
    elif preformatted and plain:
        yield f"```text\n{plain}\n```"
    else:
        yield _escaped_prose(plain)


def _row(parameter: click.Parameter, context: click.Context) -> str:
    if not isinstance(parameter, click.Option) or parameter.hidden or _COMMON_OPTIONS & {*parameter.opts}:
        return ""
    names = ", ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))
    metavar = "" if parameter.is_flag else f" `{parameter.make_metavar(context)}`"
    notes = [_escaped_prose(parameter.help or "")]
    if parameter.required:
        notes.append("Required.")
    if parameter.multiple and "repeatable" not in (parameter.help or "").lower():
        notes.append("Repeatable.")
    if isinstance(parameter.envvar, str) and parameter.envvar not in (parameter.help or ""):
        notes.append(f"Also `{parameter.envvar}`.")
    named = names + metavar.replace("|", "\\|")
    return f"| {named} | {_default(parameter)} | {' '.join(filter(None, notes))} |"


def _default(option: click.Option) -> str:
    value: Any = option.default
    if isinstance(value, bool):
        return f"`{value}`".lower() if option.secondary_opts and value else ""
    unset = value is None or callable(value) or type(value).__name__ == "Sentinel" or value in ((), "")
    return "" if unset or (option.flag_value == value and option.is_flag) else f"`{value}`"


def _escaped_prose(text: str) -> str:
    """Escape Markdown characters outside of code."""
    return "".join(one if one.startswith("`") else _escaped(one) for one in re.split(r"(`[^`]*`)", text))


def _escaped(text: str) -> str:
    return re.sub(r"([*_|\[\]])", r"\\\1", text.replace("<", "&lt;").replace(">", "&gt;"))

"""Every command in a page exists with its options, and every spec and settings file is valid."""

from __future__ import annotations

import contextlib
import re
import shlex
from typing import Any, Final

import click
import pytest
import yaml
from click.testing import CliRunner

from mirror_collector.cli import main as mirror_collector
from mirror_collector.settings import Settings
from tests.support.drawn import ROOT
from tests.support.pages.blocks import PAGES, SHELL, Block, blocks, commands, inline, lines
from xds_server.cli import main as shiftplane
from xds_server.spec import RouteSpec, check_together, load
from xds_server.web.settings import load_access

PROGRAMS: Final[dict[str, click.Command]] = {"shiftplane": shiftplane, "mirror-collector": mirror_collector}
BLOCKS = [block for page in PAGES for block in blocks(page)]
NAMED = [
    (str(block), words)
    for block in BLOCKS
    if block.language in SHELL
    for line in lines(block)
    for words in commands(line)
    if words[0] in PROGRAMS
]
YAML = [block for block in BLOCKS if block.language == "yaml"]
# Files of other formats, by one of their keys; they are not checked here.
FOREIGN: Final = {
    "receivers": "the configuration of Alertmanager",
    "targets": "notification settings, which have their own tests",
}
WHOLE: Final = """\
apiVersion: shiftplane.dev/v1alpha1
kind: ModelRoute
metadata: {name: chat}
spec:
  proxies: {group: chat}
  backends:
    - {name: v1, endpoints: ["10.0.0.1:8000"], price: {inputPerMillion: 1, outputPerMillion: 2}}
    - {name: v2, endpoints: ["10.0.0.2:8000"], price: {inputPerMillion: 1, outputPerMillion: 2}}
  stable: v1
  candidate: v2
  attributes: {user.id: {header: x-user-id}, org.id: {header: x-org-id}, session: {header: x-session}}
"""


def resolve(words: list[str]) -> tuple[click.Command, list[str]]:
    """Return the command of a command line, and its arguments."""
    command, rest = PROGRAMS[words[0]], words[1:]
    while isinstance(command, click.Group) and rest and re.match(r"[a-z]", rest[0]):
        _, inner, rest = command.resolve_command(click.Context(command), rest)
        assert inner is not None
        command = inner
    return command, rest


def options(command: click.Command) -> set[str]:
    """Return the option names of a command; those of a group include the options of its commands."""
    own = {name for option in command.params for name in (*option.opts, *option.secondary_opts)}
    if isinstance(command, click.Group):
        context = click.Context(command)
        inner = [command.get_command(context, name) for name in command.list_commands(context)]
        own = own.union(*(options(one) for one in inner if one is not None))
    return own


def parse(words: list[str]) -> None:
    """Parse a command line as the program would; missing files are allowed.

    Raises:
        click.UsageError: The command line is invalid.
    """
    command, rest = resolve(words)
    # A missing option may cause a prompt, which is aborted here.
    with CliRunner().isolation(), contextlib.suppress(click.Abort, click.exceptions.Exit):
        try:
            command.make_context(words[0], rest)
        except click.BadParameter as error:
            if "does not exist" not in error.format_message():
                raise


@pytest.mark.parametrize(("where", "words"), NAMED, ids=[f"{w}: {shlex.join(c)[:60]}" for w, c in NAMED])
def test_commands_are_valid(where: str, words: list[str]) -> None:
    parse(words)


def test_there_are_many_commands() -> None:
    assert len(NAMED) > 60
    assert {page for page in PAGES if page.startswith("docs/howto/")} <= {w.split(":")[0] for w, _ in NAMED}


@pytest.mark.parametrize("words", [["shiftplane", "aply", "x"], ["shiftplane", "apply", "--forced", "x"]])
def test_an_invalid_command_is_detected(words: list[str]) -> None:
    with pytest.raises(click.UsageError):
        parse(words)


def inline_commands(page: str) -> list[list[str]]:
    """Return the commands in the inline code of a page, with their options."""
    return [
        piece.split() for piece in inline(page) if re.match(r"(shiftplane|mirror-collector) [a-z]", piece)
    ]


@pytest.mark.parametrize("page", PAGES)
def test_inline_commands_exist(page: str) -> None:
    for words in inline_commands(page):
        command, rest = resolve(words)
        used = {word.partition("=")[0] for word in rest if re.match(r"--?[a-z]", word)}
        assert used <= {*options(command), "--help", "-h", "--version"}, words


@pytest.mark.parametrize("block", YAML, ids=str)
def test_specs_and_settings_are_valid(block: Block) -> None:
    if re.search(r"^kind: (ModelRoute|DeploymentStrategy)$", block.text, re.MULTILINE):
        lint(block.text)
        return
    value: Any = yaml.safe_load(block.text)
    assert isinstance(value, dict)
    if set(value) <= {field.alias for field in RouteSpec.model_fields.values()}:
        lint(complete(value))
    elif set(value) <= set(Settings.model_fields):
        Settings.model_validate(value)
    elif "oidc" in value:
        found, problems = load_access(block.text, file="page.yaml", read=lambda _name: "a secret")
        assert (found is not None, problems) == (True, ())
    else:
        assert set(value) & set(FOREIGN), f"{block}: unknown kind of file"


def lint(text: str) -> None:
    loaded = load(text, file="page.yaml")
    problems = (*loaded.problems, *check_together([loaded]))
    assert [str(problem) for problem in problems if problem.severity.name == "ERROR"] == []
    assert loaded.routes


def complete(section: dict[str, Any]) -> str:
    """Return a complete spec that contains a section of one."""
    whole = yaml.safe_load(WHOLE)
    whole["spec"].setdefault("strategy", {"allAtOnce": {}})
    if "abTest" in section.get("strategy", {}):
        del whole["spec"]["candidate"]
    whole["spec"].update(section)
    return yaml.safe_dump(whole, sort_keys=False)


@pytest.mark.parametrize("page", [page for page in PAGES if not page.startswith("docs/")])
def test_links_in_the_repository_resolve(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#\s]+)", text) if "://" not in link]
    assert [link for link in links if not ((ROOT / page).parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES)
def test_no_line_begins_with_an_issue_number(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    assert re.findall(r"^\s*#\d+.*", text, re.MULTILINE) == [], "the site would render it as a heading"

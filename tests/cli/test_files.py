"""Every command that reads a file reports one that is not UTF-8 in one line, with its path and byte."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import pytest
from click.testing import CliRunner

from tests.support.plane import route
from xds_server.cli import main

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

    from tests.cli.conftest import FakeControlPlane, Run

BINARY: Final = b"ab: \xff\xfe"
GOOD: Final = route(
    ("v1", "127.0.0.1:9001"), ("v2", "127.0.0.1:9002"), "{canary: {steps: [{setWeight: 5}, {pause: {}}]}}"
)
ACCESS: Final = """\
oidc:
  issuer: https://idp.example.com
  clientId: shiftplane
  clientSecretFile: secret
  roles: [{claim: groups, value: platform, role: admin}]
"""
NOTIFY: Final = "targets: [{name: a, type: webhook, url: https://example.com, secretFile: secret}]\n"


def assert_one_line(result: Result, path: Path | str, *, name: str = "", byte: int = 4) -> None:
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit), result.exception
    (line,) = (text for text in result.output.splitlines() if "not UTF-8" in text)
    assert line.startswith(f"Error: {name}{path}: not UTF-8 text (byte {byte})"), line


@pytest.mark.parametrize(
    "args",
    [
        ("lint", "FILE"),
        ("plan", "FILE"),
        ("apply", "FILE"),
        ("diff", "FILE"),
        ("diff", "GOOD", "--against", "FILE"),
        ("assign", "chat", "--spec", "FILE", "-a", "user.id=ada"),
        ("replay", "FILE"),
        ("replay", "GOOD", "--blocks", "FILE"),
        ("audit", "verify", "--export", "FILE"),
        ("notify", "test", "--notify", "FILE"),
        ("serve", "--notify", "FILE"),
        ("serve", "--access", "FILE"),
        ("serve", "--collector-token-file", "FILE", "--store", "STORE"),
    ],
    ids=" ".join,
)
def test_files_of_options_and_arguments(run: Run, tmp_path: Path, args: tuple[str, ...]) -> None:
    file, good = tmp_path / "binary.yaml", tmp_path / "good.yaml"
    file.write_bytes(BINARY)
    good.write_text(GOOD)
    paths = {"FILE": str(file), "GOOD": str(good), "STORE": str(tmp_path / "store.sqlite")}
    assert_one_line(run(*(paths.get(arg, arg) for arg in args)), file)


def test_files_of_environment_variables(
    run: Run, control_plane: FakeControlPlane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "binary"
    file.write_bytes(BINARY)
    monkeypatch.setenv("SHIFTPLANE_TOKEN_FILE", str(file))
    assert_one_line(run("get", "--server", control_plane.url), file, name="SHIFTPLANE_TOKEN_FILE: ")
    file.unlink()
    missing = run("get", "--server", control_plane.url)
    assert missing.output == f"Error: SHIFTPLANE_TOKEN_FILE: {file}: No such file or directory\n"
    monkeypatch.delenv("SHIFTPLANE_TOKEN_FILE")
    file.write_bytes(BINARY)
    monkeypatch.setenv("SHIFTPLANE_CONFIG", str(file))
    assert_one_line(run("get"), file)


@pytest.mark.parametrize(("option", "text"), [("--access", ACCESS), ("--notify", NOTIFY)])
@pytest.mark.parametrize(
    ("content", "message"), [(BINARY, "secret: not UTF-8 text (byte 4)"), (b" \n", "secret is empty")]
)
def test_files_that_settings_refer_to(
    run: Run, tmp_path: Path, option: str, text: str, content: bytes, message: str
) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text(text)
    (tmp_path / "secret").write_bytes(content)
    result = run("serve", option, str(settings))
    assert (result.exit_code, type(result.exception)) == (1, SystemExit)
    (line,) = (line for line in result.output.splitlines() if "secret" in line)
    assert re.match(rf"{re.escape(str(settings))}:\d+:\d+: \S+File: {re.escape(message)}", line), line


@pytest.mark.parametrize(
    ("args", "place"),
    [
        (("lint", "-"), "<stdin>"),
        (("assign", "chat", "--spec", "GOOD", "-a", "user.id=-"), "<stdin>:1"),
        (("login", "--token-stdin", "--server", "http://127.0.0.1:9"), "<stdin>:1"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_standard_input(tmp_path: Path, args: tuple[str, ...], place: str) -> None:
    good = tmp_path / "good.yaml"
    good.write_text(GOOD)
    args = tuple(str(good) if arg == "GOOD" else arg for arg in args)
    environment = {"SHIFTPLANE_CONFIG": str(tmp_path / "config.yaml")}
    assert_one_line(CliRunner(env=environment).invoke(main, args, input=BINARY), place)

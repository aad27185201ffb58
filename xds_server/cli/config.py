"""`shiftplane config`, `login`, `logout` and `whoami`: which control plane is meant, and who one is there."""

from __future__ import annotations

import sys
from urllib.parse import urlsplit

import click

from xds_server.cli.client import Api, ApiError, output_option, server_option
from xds_server.cli.contexts import Context, load, path, save
from xds_server.cli.out import print_data

__all__ = ["config", "login", "logout", "whoami"]


@click.group()
def config() -> None:
    """Keep names for control planes, and choose one.

    Example: shiftplane config set prod --server https://shiftplane.example.com && shiftplane config use prod
    """


@config.command("list")
@output_option
def list_(output: str) -> None:
    """List contexts; the one in use has a star. Example: shiftplane config list"""  # noqa: D415 - an example
    contexts = load()
    if output != "table":
        found = {
            name: {"server": one.server, "token": bool(one.token), "current": name == contexts.current}
            for name, one in contexts.named.items()
        }
        print_data({"file": str(path()), "contexts": found}, output)
        return
    if not contexts.named:
        click.echo("no contexts yet; make one with: shiftplane config set NAME --server URL", err=True)
        return
    wide = max(len(name) for name in contexts.named)
    for name, one in contexts.named.items():
        star = "*" if name == contexts.current else " "
        click.echo(f"{star} {name:<{wide}}  {one.server}{'' if one.token else '  (no token)'}")


@config.command("set")
@click.argument("name")
@click.option("--server", required=True, help="Its base URL.")
def set_(name: str, server: str) -> None:
    """Keep a name for a control plane; the first one is in use at once.

    Example: shiftplane config set prod --server https://shiftplane.example.com
    """
    if not server.startswith(("http://", "https://")):
        raise click.UsageError(f"--server {server!r} is no base URL; http://… or https://… is allowed")
    contexts = load()
    known = contexts.named.get(name)
    # A token belongs to one server; under another it would be shown to a stranger.
    token = known.token if known is not None and known.server.rstrip("/") == server.rstrip("/") else ""
    contexts.named[name] = Context(server=server.rstrip("/"), token=token)
    contexts.current = contexts.current or name
    click.echo(f"context {name} kept in {save(contexts)}")


@config.command()
@click.argument("name")
def use(name: str) -> None:
    """Choose the control plane that commands talk to. Example: shiftplane config use prod"""  # noqa: D415
    contexts = load()
    _known(name, list(contexts.named))
    contexts.current = name
    save(contexts)
    click.echo(f"commands go to {contexts.named[name].server} now")


@config.command()
@click.argument("name")
def remove(name: str) -> None:
    """Forget a context, its token included. Example: shiftplane config remove old"""  # noqa: D415
    contexts = load()
    _known(name, list(contexts.named))
    del contexts.named[name]
    if contexts.current == name:
        contexts.current = ""
    save(contexts)
    click.echo(f"context {name} removed")


@click.command()
@click.option(
    "--name", default=None, help="Keep it under this name; default: the context of this server, or a new one."
)
@click.option("--token-stdin", is_flag=True, help="Read the token from standard input instead of asking.")
@server_option
def login(name: str | None, server: str, *, token_stdin: bool) -> None:
    """Keep a token for a control plane, once it was seen to open it.

    Example: shiftplane login --server https://shiftplane.example.com
    """
    contexts = load()
    known = next((n for n, one in contexts.named.items() if one.server.rstrip("/") == server), None)
    fresh = urlsplit(server).netloc if "default" in contexts.named else "default"
    name = name or known or fresh
    token = sys.stdin.readline() if token_stdin else click.prompt(f"token for {server}", hide_input=True)
    token = str(token).strip()
    who = Api(server, token).get("/v1/whoami")
    contexts.named[name] = Context(server=server, token=token)
    contexts.current = name
    save(contexts)
    click.echo(f"logged in to {server} as {who['name']}: {_said(who)} (context {name})")


@click.command()
@server_option
def logout(server: str) -> None:
    """Forget the token for a control plane. Example: shiftplane logout"""  # noqa: D415
    contexts = load()
    for name, one in contexts.named.items():
        if one.server.rstrip("/") == server:
            contexts.named[name] = Context(server=one.server)
    save(contexts)
    click.echo(
        f"the token for {server} is forgotten here; end it everywhere with: shiftplane token revoke ID"
    )


@click.command()
@server_option
@output_option
def whoami(server: str, output: str) -> None:
    """Say who one is at the control plane, and what that allows. Example: shiftplane whoami"""  # noqa: D415
    who = Api(server).get("/v1/whoami")
    if output != "table":
        print_data(who, output)
        return
    note = "; nobody has to log in there" if who["via"] == "open" else f", by {who['via']}"
    click.echo(f"{who['name']} at {server}: {_said(who)}{note}")


def _said(who: dict[str, object]) -> str:
    grants = who["grants"]
    if not isinstance(grants, list):
        raise ApiError(200, {"detail": "what answers there is another program"})
    said = []
    for grant in grants:
        labels = ",".join(f"{key}={value}" for key, value in grant["routes"].items())
        said.append(grant["role"] + (f" of {labels}" if labels else ""))
    return ", ".join(said) or "nothing"


def _known(name: str, names: list[str]) -> None:
    if name not in names:
        raise click.UsageError(f"there is no context {name!r}; known: {', '.join(names) or 'none'}")

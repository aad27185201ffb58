"""`shiftplane config`, `login`, `logout` and `whoami`: contexts, tokens and identity."""

from __future__ import annotations

from urllib.parse import urlsplit

import click

from xds_server.cli.client import Api, ApiError, output_option, server_option
from xds_server.cli.contexts import Context, load, path, save
from xds_server.cli.files import stdin_lines
from xds_server.cli.out import print_data

__all__ = ["config", "login", "logout", "whoami"]


@click.group()
def config() -> None:
    """Manage contexts, which are named control planes.

    Example: shiftplane config set prod --server https://shiftplane.example.com && shiftplane config use prod
    """


@config.command("list")
@output_option
def list_(output: str) -> None:
    """List contexts; * marks the current one.

    Example: shiftplane config list
    """
    contexts = load()
    if output != "table":
        listed = {
            name: {"server": one.server, "token": bool(one.token), "current": name == contexts.current}
            for name, one in contexts.named.items()
        }
        print_data({"file": str(path()), "contexts": listed}, output)
        return
    if not contexts.named:
        click.echo("no contexts; create one with: shiftplane config set NAME --server URL", err=True)
        return
    width = max(len(name) for name in contexts.named)
    for name, one in contexts.named.items():
        mark = "*" if name == contexts.current else " "
        click.echo(f"{mark} {name:<{width}}  {one.server}{'' if one.token else '  (no token)'}")


@config.command("set")
@click.argument("name")
@click.option("--server", required=True, help="Base URL of the control plane.")
def set_(name: str, server: str) -> None:
    """Create or change a context. The first context becomes the current one.

    Example: shiftplane config set prod --server https://shiftplane.example.com
    """
    if not server.startswith(("http://", "https://")):
        raise click.UsageError(f"--server {server!r} is not a base URL; expected http://… or https://…")
    contexts = load()
    existing = contexts.named.get(name)
    # A token belongs to one server and must not be sent to another.
    same_server = existing is not None and existing.server.rstrip("/") == server.rstrip("/")
    token = existing.token if existing is not None and same_server else ""
    contexts.named[name] = Context(server=server.rstrip("/"), token=token)
    contexts.current = contexts.current or name
    click.echo(f"context {name} saved in {save(contexts)}")


@config.command()
@click.argument("name")
def use(name: str) -> None:
    """Select the current context.

    Example: shiftplane config use prod
    """
    contexts = load()
    _check_exists(name, list(contexts.named))
    contexts.current = name
    save(contexts)
    click.echo(f"current context: {name} ({contexts.named[name].server})")


@config.command()
@click.argument("name")
def remove(name: str) -> None:
    """Remove a context and its token.

    Example: shiftplane config remove old
    """
    contexts = load()
    _check_exists(name, list(contexts.named))
    del contexts.named[name]
    if contexts.current == name:
        contexts.current = ""
    save(contexts)
    click.echo(f"context {name} removed")


@click.command()
@click.option(
    "--name", default=None, help="Name of the context. Default: the context of this server, or a new one."
)
@click.option("--token-stdin", is_flag=True, help="Read the token from standard input instead of a prompt.")
@server_option
def login(name: str | None, server: str, *, token_stdin: bool) -> None:
    """Log in to a control plane: check a token, store it in a context, and make that context the current one.

    Example: shiftplane login --server https://shiftplane.example.com
    """
    contexts = load()
    existing = next((n for n, one in contexts.named.items() if one.server.rstrip("/") == server), None)
    unused = urlsplit(server).netloc if "default" in contexts.named else "default"
    name = name or existing or unused
    token = next(stdin_lines(), "") if token_stdin else click.prompt(f"token for {server}", hide_input=True)
    token = str(token).strip()
    caller = Api(server, token).get("/v1/whoami")
    roles = _roles(caller)  # Fails if the response is not from a control plane; then nothing is saved.
    contexts.named[name] = Context(server=server, token=token)
    contexts.current = name
    save(contexts)
    click.echo(f"logged in to {server} as {caller['name']}: {roles} (context {name})")


@click.command()
@server_option
def logout(server: str) -> None:
    """Remove the stored token of a control plane.

    Example: shiftplane logout
    """
    contexts = load()
    for name, one in contexts.named.items():
        if one.server.rstrip("/") == server:
            contexts.named[name] = Context(server=one.server)
    save(contexts)
    click.echo(
        f"no token for {server} is stored in {path()}; a token remains valid until it expires or an admin "
        'revokes it with "shiftplane token revoke ID"'
    )


@click.command()
@server_option
@output_option
def whoami(server: str, output: str) -> None:
    """Show the current identity and its roles.

    Example: shiftplane whoami
    """
    caller = Api(server).get("/v1/whoami")
    if output != "table":
        print_data(caller, output)
        return
    note = "; authentication is off" if caller["via"] == "open" else f", authenticated by {caller['via']}"
    click.echo(f"{caller['name']} at {server}: {_roles(caller)}{note}")


def _roles(caller: dict[str, object]) -> str:
    grants = caller["grants"]
    if not isinstance(grants, list):
        raise ApiError(200, {"detail": "the response is not from a control plane; check the URL in --server"})
    roles = []
    for grant in grants:
        labels = ",".join(f"{key}={value}" for key, value in grant["routes"].items())
        roles.append(grant["role"] + (f" of routes with {labels}" if labels else ""))
    return ", ".join(roles) or "no roles"


def _check_exists(name: str, names: list[str]) -> None:
    if name not in names:
        raise click.UsageError(f"unknown context {name!r}; defined contexts: {', '.join(names) or 'none'}")

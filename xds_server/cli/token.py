"""`shiftplane token`: create, list and revoke API tokens."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click

from xds_server.cli.client import Api, actor, output_option, server_option
from xds_server.cli.out import console, print_data, seconds, time_text

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["token"]

_DAY = 86_400
_UNITS = {"m": 60, "h": 3_600, "d": _DAY, "w": 7 * _DAY}


class _TokenLifetime(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        text = str(value)
        number, unit = text[:-1], text[-1:]
        if not (number.isascii() and number.isdecimal() and len(number) < 10 and unit in _UNITS):
            self.fail(f"{text!r} is not a duration; expected one such as 30m, 12h, 90d or 8w", param, ctx)
        lifetime = int(number) * _UNITS[unit]
        from xds_server.access.identity import TOKEN_LIFETIME_SECONDS

        if not TOKEN_LIFETIME_SECONDS[0] <= lifetime <= TOKEN_LIFETIME_SECONDS[1]:
            self.fail(f"{text!r} is out of range; expected 1m to 366d", param, ctx)
        return lifetime


class _TokenName(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    name = "name"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from xds_server.access.identity import TOKEN_NAME_PATTERN

        if re.fullmatch(TOKEN_NAME_PATTERN, str(value)) is None:
            expected = "expected up to 63 letters, digits and . _ @ -, beginning with a letter or digit"
            self.fail(f"{value!r} is not a valid token name; {expected}", param, ctx)
        return str(value)


@click.group()
def token() -> None:
    """Create, list and revoke tokens. Requires the role admin for all routes.

    Example: shiftplane token create ci --role operator --routes team=search --expires 90d
    """


@token.command()
@click.argument("name", type=_TokenName())
@click.option(
    "--role", type=click.Choice(["viewer", "operator", "admin"]), required=True, help="Role of the token."
)
@click.option(
    "--routes",
    default="",
    metavar="LABELS",
    help="Labels of the routes that the token applies to, such as team=search,tier=gold. "
    "Default: all routes.",
)
@click.option(
    "--expires",
    type=_TokenLifetime(),
    default="90d",
    show_default=True,
    help="Lifetime of the token, from 1m to 366d.",
)
@click.option(
    "--store",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    default=None,
    help="Create the token directly in this store file, for example if no user can log in anymore.",
)
@server_option
@output_option
def create(  # noqa: PLR0913, PLR0917 - one parameter per option
    name: str, role: str, routes: str, expires: int, store: Path | None, server: str, output: str
) -> None:
    """Create a token. The token is printed once and not stored.

    Example: shiftplane token create ada --role admin --expires 30d
    """
    body = {"name": name, "role": role, "routes": routes, "expires_in": expires}
    created = Api(server).post("/v1/tokens", body) if store is None else _create_in_store(store, body)
    if output != "table":
        print_data(created, output)
        return
    described = created["token"]
    scope = routes or "all routes"
    click.echo(
        f"token {described['id']} ({name}): {role} of {scope}, expires in {seconds(expires)}", err=True
    )
    click.echo(created["text"])


@token.command("list")
@server_option
@output_option
def list_(server: str, output: str) -> None:
    """List tokens without their secrets.

    Example: shiftplane token list
    """
    tokens = Api(server).get("/v1/tokens")["tokens"]
    if output != "table":
        print_data({"tokens": tokens}, output)
        return
    from rich.table import Table

    table, now = Table(box=None, pad_edge=False, header_style="bold"), time.time()
    for column in ("ID", "NAME", "ROLE", "ROUTES", "EXPIRES", "LAST USED", "CREATED BY"):
        table.add_column(column, no_wrap=True)
    for one in tokens:
        expires = "expired" if one["expires_at"] <= now else f"in {seconds(one['expires_at'] - now)}"
        used = time_text(one["last_used_at"], now) if one["last_used_at"] else "never"
        labels = ",".join(f"{key}={value}" for key, value in one["routes"].items()) or "all"
        table.add_row(one["id"], one["name"], one["role"], labels, expires, used, one["created_by"])
    console().print(table)


@token.command()
@click.argument("ids", nargs=-1, required=True)
@server_option
def revoke(ids: tuple[str, ...], server: str) -> None:
    """Revoke tokens and the sessions that they started.

    Example: shiftplane token revoke 3f9c0a1b2c3d
    """
    api = Api(server)
    for ident in ids:
        api.delete(f"/v1/tokens/{quote(ident)}")
        click.echo(f"token {ident} revoked")


def _create_in_store(path: Path, body: Mapping[str, Any]) -> dict[str, Any]:
    """Create a token in a store file, which a running control plane may have open."""
    import secrets

    from xds_server.access.audit import AuditEvent
    from xds_server.access.identity import (
        Grant,
        Role,
        SelectorError,
        new_token,
        parse_selector,
        token_to_json,
    )
    from xds_server.store import AccessStore, SqliteStore, StoreError

    try:
        labels = parse_selector(body["routes"])
        store = SqliteStore(path)
    except (SelectorError, StoreError) as error:
        raise click.ClickException(str(error)) from error
    try:
        now = time.time()
        new, text = new_token(
            secrets.token_bytes(38),
            name=body["name"],
            grant=Grant(role=Role[body["role"].upper()], labels=labels),
            by=actor(),
            now=now,
            expires_in=body["expires_in"],
        )
        event = AuditEvent(
            at=now,
            actor=actor(),
            action="create-token",
            via="store",
            source=str(path),
            detail=new.description,
        )
        AccessStore(store.file).add_token(new, event)
    except StoreError as error:
        raise click.ClickException(str(error)) from error
    finally:
        store.close()
    return {"token": token_to_json(new), "text": text}

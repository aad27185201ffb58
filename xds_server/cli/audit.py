"""`shiftplane audit`: who did what and why, and whether anybody tampered with what is known of it."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import click

from xds_server.cli.client import Api, Exit, output_option, server_option
from xds_server.cli.out import ago, console, print_data

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["audit"]

_PATIENCE = 600.0  # A million entries take most of a minute.
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


class _ListByDefault(click.Group):
    """`audit` and `audit ROUTE` list, so that the most used word need not be said."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.commands:
            args = ["list", *args]
        return super().resolve_command(ctx, args)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or (args[0] not in self.commands and args[0] not in {"-h", "--help"}):
            args = ["list", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_ListByDefault, context_settings={"help_option_names": ["-h", "--help"]})
def audit() -> None:
    """Say who did what and why, refused tries included; deleted routes are still there.

    Example: shiftplane audit chat -n 20, shiftplane audit verify
    """


@audit.command("list")
@click.argument("route", required=False)
@click.option(
    "--limit", "-n", type=click.IntRange(1, 10_000), default=50, show_default=True, help="How many lines."
)
@server_option
@output_option
def list_(route: str | None, limit: int, server: str, output: str) -> None:
    """List the newest entries, of one route or of all. Example: shiftplane audit list chat"""  # noqa: D415
    query = {"limit": limit} | ({} if route is None else {"route": route})
    entries = Api(server).get(f"/v1/audit?{urlencode(query)}")["entries"]
    if output != "table":
        print_data({"entries": entries}, output)
        return
    if not entries:
        click.echo("nobody did anything yet", err=True)
        return
    from rich.table import Table
    from rich.text import Text

    table, now = Table(box=None, pad_edge=False, header_style="bold"), time.time()
    for column in ("TIME", "ROUTE", "WHO", "DID", "WHY", "AND SO"):
        table.add_column(column, no_wrap=column != "AND SO")
    for one in entries:
        refused = one["outcome"] == "refused"
        so = f"refused: {one['detail']}" if refused else one["detail"]
        words = (ago(one["at"], now), one["route"], one["actor"], one["action"], one["reason"], so)
        table.add_row(*(Text(word, style="red" if refused else "") for word in words))
    console().print(table)


@audit.command()
@click.option("--store", type=_FILE, default=None, help="Check this store itself; needs no server.")
@click.option("--export", "exported", type=_FILE, default=None, help="Check what `audit export` wrote.")
@click.option(
    "--anchor",
    "anchors",
    multiple=True,
    metavar="NUMBER:HASH",
    help="An entry that is known from elsewhere, such as an `audited` line of the log; repeatable.",
)
@server_option
@output_option
@click.pass_context
def verify(
    ctx: click.Context,
    store: Path | None,
    exported: Path | None,
    anchors: tuple[str, ...],
    server: str,
    output: str,
) -> None:
    """Check that no entry was changed, removed or moved; ends with 1 where one was.

    Who may rewrite the whole file can only be found out by an anchor that is kept elsewhere.
    Example: shiftplane audit verify --store state.sqlite
    """
    if store is not None and exported is not None:
        raise click.UsageError("--store and --export exclude each other")
    if store is None and exported is None:
        query = urlencode([("anchor", one) for one in anchors])
        found = Api(server, patience=_PATIENCE).get("/v1/audit/verify" + (f"?{query}" if query else ""))
    else:
        found = _of_store(store, anchors) if store is not None else _of_export(exported or Path(), anchors)
    if output != "table":
        print_data(found, output)
    elif found["holds"]:
        click.echo(f"the audit holds: {found['entries']:,} entries")
    else:
        for one in found["breaks"]:
            click.echo(one["words"], err=True)
        click.echo(
            f"the audit does NOT hold: {len(found['breaks'])} places of {found['entries']:,} entries",
            err=True,
        )
    if not found["holds"]:
        ctx.exit(Exit.REFUSED)


@audit.command()
@click.option(
    "--output-file", "-f", type=click.Path(dir_okay=False, path_type=Path), default=None, help="Where to."
)
@server_option
def export(output_file: Path | None, server: str) -> None:
    """Write the whole audit as JSON lines, with hashes. Example: shiftplane audit export -f audit.jsonl"""  # noqa: D415
    text = Api(server, patience=_PATIENCE).text("/v1/audit/export")
    if output_file is None:
        sys.stdout.write(text)
        return
    output_file.write_text(text, encoding="utf-8")
    click.echo(f"{len(text.splitlines()):,} entries in {output_file}", err=True)


def _of_store(path: Path, anchors: Iterable[str]) -> dict[str, Any]:
    from xds_server.store import SqliteStore, StoreError

    known = [_anchor(text) for text in anchors]
    try:
        store = SqliteStore(path)
        entries, breaks = store.audit_breaks(known)
    except StoreError as error:
        raise click.ClickException(str(error)) from error
    store.close()
    return _told(entries, breaks)


def _of_export(path: Path, anchors: Iterable[str]) -> dict[str, Any]:
    from xds_server.access.audit import GENESIS, Checkpoint, entry_from_json, verify

    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            found.append(entry_from_json(json.loads(line)))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise click.ClickException(f"{path}:{number}: not an entry of an audit ({error})") from error
    last = found[-1] if found else None
    head = Checkpoint(seq=0, hash=GENESIS) if last is None else Checkpoint(seq=last.seq, hash=last.hash)
    return _told(len(found), list(verify(found, head, [_anchor(text) for text in anchors])))


def _told(entries: int, breaks: list[Any]) -> dict[str, Any]:
    said = [{"seq": one.seq, "words": one.message} for one in breaks]
    return {"holds": not said, "entries": entries, "breaks": said}


def _anchor(text: str) -> Any:
    from xds_server.access.audit import parse_checkpoint

    try:
        return parse_checkpoint(text)
    except ValueError as error:
        raise click.UsageError(f"--anchor: {error}") from error

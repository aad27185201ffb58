"""`shiftplane audit`: show, verify and export the audit log."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import click

from xds_server.cli.client import Api, Exit, output_option, server_option
from xds_server.cli.files import read_text
from xds_server.cli.out import console, print_data, time_text

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["audit"]

_TIMEOUT = 600.0  # Seconds; the server needs almost a minute to verify a million entries.
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


class _ListByDefault(click.Group):
    """A command group that runs `list` if no subcommand is given: `audit`, `audit ROUTE`."""

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
    """Show, verify and export the audit log, which includes rejected requests and deleted routes.

    Example: shiftplane audit chat -n 20 && shiftplane audit verify
    """


@audit.command("list")
@click.argument("route", required=False)
@click.option(
    "--limit",
    "-n",
    type=click.IntRange(1, 10_000),
    default=50,
    show_default=True,
    help="Maximum number of entries.",
)
@server_option
@output_option
def list_(route: str | None, limit: int, server: str, output: str) -> None:
    """List the newest entries of one route or of all routes.

    Example: shiftplane audit list chat
    """
    query = {"limit": limit} | ({} if route is None else {"route": route})
    entries = Api(server).get(f"/v1/audit?{urlencode(query)}")["entries"]
    if output != "table":
        print_data({"entries": entries}, output)
        return
    if not entries:
        scope = "" if route is None else f" of route {route}"
        click.echo(f"the audit log has no entries{scope}", err=True)
        return
    from rich.table import Table
    from rich.text import Text

    table, now = Table(box=None, pad_edge=False, header_style="bold"), time.time()
    for column in ("TIME", "ROUTE", "ACTOR", "ACTION", "REASON", "RESULT"):
        table.add_column(column, no_wrap=column != "RESULT")
    for one in entries:
        refused = one["outcome"] == "refused"
        result = f"refused: {one['detail']}" if refused else one["detail"]
        row = (time_text(one["at"], now), one["route"], one["actor"], one["action"], one["reason"], result)
        table.add_row(*(Text(cell, style="red" if refused else "") for cell in row))
    console().print(table)


@audit.command()
@click.option("--store", type=_FILE, default=None, help="Verify this store file directly, without a server.")
@click.option(
    "--export", "exported", type=_FILE, default=None, help="Verify a file written by `audit export`."
)
@click.option(
    "--checkpoint",
    "checkpoints",
    multiple=True,
    metavar="NUMBER:HASH",
    help="Verify also that entry NUMBER has this hash. Use values that were recorded outside the store, such "
    "as the fields seq and hash of a log event `audited`. Repeatable.",
)
@click.option("--anchor", "anchors", multiple=True, metavar="NUMBER:HASH", hidden=True)
@server_option
@output_option
@click.pass_context
def verify(  # noqa: PLR0913, PLR0917 - one parameter per option
    ctx: click.Context,
    store: Path | None,
    exported: Path | None,
    checkpoints: tuple[str, ...],
    anchors: tuple[str, ...],
    server: str,
    output: str,
) -> None:
    """Verify that no audit entry was changed, removed or moved.

    Exit code: 0 if the audit log is unchanged, 1 otherwise.

    Only a checkpoint that was recorded outside the store reveals that the whole audit log was rewritten.

    Example: shiftplane audit verify --store state.sqlite
    """
    if anchors:
        click.echo("option '--anchor' is deprecated; use '--checkpoint'", err=True)
        checkpoints += anchors
    if store is not None and exported is not None:
        raise click.UsageError("--store and --export are mutually exclusive")
    if store is None and exported is None:
        query = urlencode([("anchor", one) for one in checkpoints])
        result = Api(server, timeout=_TIMEOUT).get("/v1/audit/verify" + (f"?{query}" if query else ""))
    else:
        result = (
            _verify_store(store, checkpoints)
            if store is not None
            else _verify_export(exported or Path(), checkpoints)
        )
    if output != "table":
        print_data(result, output)
    elif result["holds"]:
        click.echo(f"audit log verified: {result['entries']:,} entries")
    else:
        for one in result["breaks"]:
            click.echo(one["words"], err=True)
        click.echo(
            f"audit log NOT valid; problems found: {len(result['breaks'])}; entries: {result['entries']:,}",
            err=True,
        )
    if not result["holds"]:
        ctx.exit(Exit.FAILED)


@audit.command()
@click.option(
    "--output-file",
    "-f",
    type=click.Path(dir_okay=False, path_type=Path),
    default=None,
    help="File to write. Default: standard output.",
)
@server_option
def export(output_file: Path | None, server: str) -> None:
    """Export the audit log as JSON lines with hashes.

    Example: shiftplane audit export -f audit.jsonl
    """
    text = Api(server, timeout=_TIMEOUT).text("/v1/audit/export")
    if output_file is None:
        sys.stdout.write(text)
        return
    output_file.write_text(text, encoding="utf-8")
    click.echo(f"{len(text.splitlines()):,} entries written to {output_file}", err=True)


def _verify_store(path: Path, checkpoints: Iterable[str]) -> dict[str, Any]:
    from xds_server.store import SqliteStore, StoreError

    parsed = [_checkpoint(text) for text in checkpoints]
    try:
        store = SqliteStore(path)
        entries, breaks = store.audit_breaks(parsed)
    except StoreError as error:
        raise click.ClickException(str(error)) from error
    store.close()
    return _result(entries, breaks)


def _verify_export(path: Path, checkpoints: Iterable[str]) -> dict[str, Any]:
    from xds_server.access.audit import GENESIS, Checkpoint, entry_from_json, verify

    entries = []
    text = read_text(path, expected="a file written by `audit export`")
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            entries.append(entry_from_json(json.loads(line)))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise click.ClickException(f"{path}:{number}: invalid audit entry: {_invalid(error)}") from error
    last = entries[-1] if entries else None
    head = Checkpoint(seq=0, hash=GENESIS) if last is None else Checkpoint(seq=last.seq, hash=last.hash)
    return _result(len(entries), list(verify(entries, head, [_checkpoint(text) for text in checkpoints])))


def _invalid(error: Exception) -> str:
    match error:
        case json.JSONDecodeError():
            return "the line is not valid JSON"
        case KeyError(args=(name,)):
            return f'field "{name}" is missing'
        case _:
            return "it is not a JSON object, or a field is unknown, is missing or has an invalid value"


def _result(entries: int, breaks: list[Any]) -> dict[str, Any]:
    listed = [{"seq": one.seq, "words": one.message} for one in breaks]
    return {"holds": not listed, "entries": entries, "breaks": listed}


def _checkpoint(text: str) -> Any:
    from xds_server.access.audit import parse_checkpoint

    try:
        return parse_checkpoint(text)
    except ValueError as error:
        raise click.UsageError(f"--checkpoint: {error}") from error

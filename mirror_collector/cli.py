"""The command line of the collector, ``mirror-collector``."""

from __future__ import annotations

import asyncio
import importlib
import signal
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mirror_collector.units import parse_address, parse_duration, parse_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mirror_collector.app import Config
    from mirror_collector.store import StoreReader

__all__ = ["main"]

_T = TypeVar("_T")

_EXAMPLE = """\b
Example:
  mirror-collector serve --store /var/lib/mirror-collector/pairs.sqlite --retention 3d
  curl -s http://127.0.0.1:18003/v1/summary
"""


class _ParsedParam(click.ParamType[Any]):
    """A parameter that `parse` converts from text, such as a duration or a size."""

    def __init__(self, name: str, parse: Callable[[str], Any]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Parse text; any other value was parsed before and stays unchanged."""
        if not isinstance(value, str):
            return value
        try:
            return self._parse(value)
        except ValueError as error:
            return self.fail(str(error), param, ctx)


def _positive(parse: Callable[[str], _T]) -> Callable[[str], _T]:
    def parse_positive(text: str) -> _T:
        value = parse(text)
        if not value:
            raise ValueError(f"{text!r} must be greater than zero")
        return value

    return parse_positive


_ADDRESS = _ParsedParam("host:port", parse_address)
_DURATION = _ParsedParam("duration", _positive(parse_duration))
_SIZE = _ParsedParam("size", _positive(parse_size))


_EXISTING_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="shiftplane")
def main() -> None:
    """Pair the answers of a shadow with the answers that users received, compare them, serve the results."""


@main.command(epilog=_EXAMPLE, context_settings={"show_default": True})
@click.option(
    "--grpc",
    type=_ADDRESS,
    default="127.0.0.1:18002",
    help="Address of the gRPC server: access log service and evidence service.",
)
@click.option(
    "--http",
    type=_ADDRESS,
    default="127.0.0.1:18003",
    help="Address of the HTTP server: API, pages and metrics.",
)
@click.option(
    "--store",
    default="mirror-collector.sqlite",
    envvar="MIRROR_COLLECTOR_STORE",
    help="Store: path of a SQLite file (created if missing), or postgresql://user@host/database.",
)
@click.option(
    "--config",
    type=_EXISTING_FILE,
    default=None,
    help="Path to the settings file: privacy, access tokens, embedding, judge and sinks (YAML).",
)
@click.option(
    "--encryption-keys",
    type=_EXISTING_FILE,
    default=None,
    help="Path to a file with the encryption keys of stored messages: one key per line, 32 bytes in base64 or"
    " hex. The first key encrypts, all keys decrypt. Without it, messages are stored unencrypted.",
)
@click.option(
    "--pair-window",
    type=_DURATION,
    default="180s",
    help="Time from the first received leg of a request within which its other legs must arrive. Must exceed"
    " the timeout of shadow requests.",
)
@click.option(
    "--retention",
    type=_DURATION,
    default="7d",
    help="How long pairs are stored. `privacy.retention` in the settings file takes precedence.",
)
@click.option(
    "--max-store-size",
    type=_SIZE,
    default="2GiB",
    help="Maximum size of the store; beyond it, the oldest pairs are deleted.",
)
@click.option(
    "--max-body",
    type=_SIZE,
    default="1MiB",
    help="Maximum size of a stored message body; longer bodies are truncated.",
)
@click.option(
    "--max-queue-size",
    type=_SIZE,
    default="256MiB",
    help="Maximum total size of the legs in the receive queue; beyond it, new legs are dropped.",
)
@click.option(
    "--max-waiting-size",
    type=_SIZE,
    default="256MiB",
    help="Maximum total size of the legs that wait for other legs of their request; beyond it, the legs of"
    " the oldest request are evicted.",
)
def serve(**options: Any) -> None:
    """Run the collector until SIGTERM or SIGINT.

    Log events are written to stderr: as JSON, or as text on a terminal. The event `listening` contains the
    addresses.
    """
    # Imported here so that --help does not load gRPC.
    from mirror_collector.app import Config  # noqa: PLC0415
    from mirror_collector.exchange import PairingLimits  # noqa: PLC0415
    from mirror_collector.receive import LegQueueLimits  # noqa: PLC0415
    from mirror_collector.settings import Settings, SettingsError, load_settings  # noqa: PLC0415
    from mirror_collector.store import StoreError, StoreLimits  # noqa: PLC0415

    try:
        settings = Settings() if options["config"] is None else load_settings(options["config"])
    except SettingsError as error:
        raise click.ClickException(str(error)) from error
    config = Config(
        store=options["store"],
        settings=settings,
        key_file=options["encryption_keys"],
        grpc=options["grpc"],
        http=options["http"],
        pairing=PairingLimits(window=options["pair_window"], max_bytes=options["max_waiting_size"]),
        queue=LegQueueLimits(max_bytes=options["max_queue_size"], max_body=options["max_body"]),
        limits=StoreLimits(retention=options["retention"], max_size=options["max_store_size"]),
    )
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(_serve(config))
    except (SettingsError, StoreError, OSError) as error:
        raise click.ClickException(str(error)) from error


_STORE = click.option(
    "--store",
    default="mirror-collector.sqlite",
    show_default=True,
    envvar="MIRROR_COLLECTOR_STORE",
    help="Store: path of a SQLite file, or postgresql://user@host/database.",
)
_KEYS = click.option(
    "--encryption-keys",
    type=_EXISTING_FILE,
    default=None,
    help="Path to a file with the encryption keys of stored messages. Required to read encrypted messages.",
)


@main.command(
    epilog="\b\nExample:\n  mirror-collector export --format parquet --output pairs.parquet --route chat"
)
@_STORE
@_KEYS
@click.option(
    "--format",
    "file_format",
    type=click.Choice(["jsonl", "parquet"]),
    default="jsonl",
    show_default=True,
    help="Format of the output; parquet requires --output.",
)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default=None,
    help="Path of the output file; stdout if not given.",
)
@click.option("--route", default=None, help="Export only the pairs of this route.")
@click.option("--without-messages", is_flag=True, help="Export without message texts.")
def export(
    *,
    store: str,
    encryption_keys: Path | None,
    file_format: str,
    output: Path | None,
    route: str | None,
    without_messages: bool,
) -> None:
    """Write stored pairs to a file or to stdout, one flat record per pair, oldest first.

    The collector may be running.
    """
    from mirror_collector.export import ExportError, write_jsonl, write_parquet  # noqa: PLC0415

    if file_format == "parquet" and output is None:
        raise click.UsageError("--format parquet requires --output")
    try:
        with _open_reader(store, encryption_keys) as reader:
            pairs = reader.all_pairs(route)
            if file_format == "parquet" and output is not None:
                written = write_parquet(pairs, output, bodies=not without_messages, progress=_show_progress)
            else:
                with click.open_file("-" if output is None else str(output), "wb") as out:
                    written = write_jsonl(pairs, out, bodies=not without_messages, progress=_show_progress)
    except (ExportError, _store_error(), OSError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{_pairs(written)} written", err=True)


@main.command(epilog="\b\nExample:\n  mirror-collector recompare --store pairs.sqlite")
@_STORE
@_KEYS
def recompare(*, store: str, encryption_keys: Path | None) -> None:
    """Compare stored pairs again with the comparison of this release; the collector must not be running.

    Totals and evidence of the current comparison version are rebuilt from the stored pairs. Pairs without
    stored messages are skipped.
    """
    from mirror_collector.store import StoreLimits, StoreWriter  # noqa: PLC0415

    try:
        with _open_reader(store, encryption_keys, migrate=True) as reader:
            writer = StoreWriter(store, StoreLimits())
            try:
                result = writer.recompare(reader, _show_progress)
            finally:
                writer.close()
    except _store_error() as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{_pairs(result.measured)} compared again")
    if result.without_messages:
        click.echo(
            f"{_pairs(result.without_messages)} skipped: messages are not stored or cannot be decrypted"
        )


@main.command(epilog="\b\nExample:\n  mirror-collector forget --unit ada")
@_STORE
@click.option("--unit", default="", help="User or session, as named in the requests.")
@click.option("--request-id", default="", help="Id of the request (header `x-request-id`).")
def forget(*, store: str, unit: str, request_id: str) -> None:
    """Delete all data of one user, session or request.

    The collector must not be running; use DELETE /v1/pairs on a running collector.
    """
    if bool(unit) == bool(request_id):
        raise click.UsageError("exactly one of --unit and --request-id is required")
    from mirror_collector.store import StoreLimits, StoreWriter  # noqa: PLC0415

    try:
        _check_store(store, may_be_older=True)
        writer = StoreWriter(store, StoreLimits())
        try:
            deleted = writer.forget(request_id=request_id, unit=unit)
        finally:
            writer.close()
    except _store_error() as error:
        raise click.ClickException(str(error)) from error
    click.echo("rows deleted by table: " + ", ".join(f"{table} {n:,}" for table, n in deleted.items()))


@contextmanager
def _open_reader(store: str, keys: Path | None, *, migrate: bool = False) -> Iterator[StoreReader]:
    """Open an existing store for reading; with `migrate`, migrate an older store first."""
    from mirror_collector.store import MessageCipher, StoreLimits, StoreReader, StoreWriter  # noqa: PLC0415

    _check_store(store, may_be_older=migrate)
    if migrate:
        StoreWriter(store, StoreLimits()).close()
    reader = StoreReader(store, MessageCipher() if keys is None else MessageCipher.from_key_file(keys))
    try:
        yield reader
    finally:
        reader.close()


def _check_store(store: str, *, may_be_older: bool) -> None:
    """Raise StoreError unless a store exists at this location and has a schema that this release can use."""
    from mirror_collector.store import SCHEMA_VERSION, StoreError, redact_password, schema_version  # noqa: PLC0415

    found = schema_version(store)
    if found is None:
        raise StoreError(
            f"no store found at {redact_password(store)}; specify the store of the collector with --store"
        )
    if found < SCHEMA_VERSION and not may_be_older:
        raise StoreError(
            f"the store has schema version {found}, but this release reads version {SCHEMA_VERSION}; to "
            "migrate the store, start the collector of this release on it once"
        )
    if found > SCHEMA_VERSION:
        raise StoreError(
            f"the store has schema version {found}, which is newer than version {SCHEMA_VERSION} of this "
            "release; use the release that wrote the store"
        )


def _store_error() -> type[Exception]:
    from mirror_collector.store import StoreError  # noqa: PLC0415

    return StoreError


def _pairs(count: int) -> str:
    """Return a number of pairs in words, such as "1 pair" or "2,000 pairs"."""
    return f"{count:,} pair{'s' if count != 1 else ''}"


def _show_progress(count: int) -> None:
    if sys.stderr.isatty():
        click.echo(f"\r{_pairs(count)}", nl=False, err=True)


async def _serve(config: Config) -> None:
    from mirror_collector.app import run  # noqa: PLC0415
    from mirror_collector.logs import start_logging  # noqa: PLC0415

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    signals = (signal.SIGTERM, signal.SIGINT)

    def request_stop() -> None:
        stop.set()
        # A second signal terminates the process immediately.
        for number in signals:
            loop.remove_signal_handler(number)

    for number in signals:
        loop.add_signal_handler(number, request_stop)
    await run(config, stop=stop, log=start_logging(sys.stderr))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return the event loop factory of uvloop, or None for the default loop if it is not installed."""
    try:
        factory: Callable[[], asyncio.AbstractEventLoop] = importlib.import_module("uvloop").new_event_loop
    except ImportError:
        return None
    return factory


if __name__ == "__main__":
    main(prog_name="mirror-collector")

"""``mirror-collector``: the command line of the collector."""

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
    from mirror_collector.store import Reader

__all__ = ["main"]

_T = TypeVar("_T")

_EXAMPLE = """\b
Example:
  mirror-collector serve --store /var/lib/mirror-collector/pairs.sqlite --retention 3d
  curl -s http://127.0.0.1:18003/v1/summary
"""


class _Written(click.ParamType[Any]):
    """A value people write with its unit."""

    def __init__(self, name: str, parse: Callable[[str], Any]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Parse text; what is parsed already passes."""
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
            raise ValueError(f"{text!r} must be more than nothing")
        return value

    return parse_positive


_ADDRESS = _Written("host:port", parse_address)
_DURATION = _Written("duration", _positive(parse_duration))
_SIZE = _Written("size", _positive(parse_size))


_EXISTING = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="shiftplane")
def main() -> None:
    """Pair shadow answers with the answers users got, compare them, and keep the evidence."""


@main.command(epilog=_EXAMPLE, context_settings={"show_default": True})
@click.option("--grpc", type=_ADDRESS, default="127.0.0.1:18002", help="Access log service, for proxies.")
@click.option("--http", type=_ADDRESS, default="127.0.0.1:18003", help="HTTP API and metrics.")
@click.option(
    "--store",
    default="mirror-collector.sqlite",
    envvar="MIRROR_COLLECTOR_STORE",
    help="What keeps the evidence: a file, made if missing, or postgresql://user@host/database.",
)
@click.option("--config", type=_EXISTING, default=None, help="Settings: privacy, access, extras (YAML).")
@click.option("--encryption-keys", type=_EXISTING, default=None, help="Keys that seal messages, one a line.")
@click.option(
    "--pair-window",
    type=_DURATION,
    default="180s",
    help="How long a leg waits for the other; more than a shadow may take.",
)
@click.option("--retention", type=_DURATION, default="7d", help="How long pairs are kept.")
@click.option("--max-store-size", type=_SIZE, default="2GiB", help="Beyond this the oldest pairs go.")
@click.option("--max-body", type=_SIZE, default="1MiB", help="Kept of each body.")
@click.option("--max-queue-size", type=_SIZE, default="256MiB", help="Legs not worked off yet.")
@click.option("--max-waiting-size", type=_SIZE, default="256MiB", help="Legs waiting for the other.")
def serve(**chosen: Any) -> None:
    """Run the collector until SIGTERM or SIGINT.

    Log events go to stderr, as JSON unless that is a terminal; `listening` carries the addresses.
    """
    # Here, so that --help does not wait for gRPC to load.
    from mirror_collector.app import Config  # noqa: PLC0415
    from mirror_collector.exchange import PairingLimits  # noqa: PLC0415
    from mirror_collector.receive import IntakeLimits  # noqa: PLC0415
    from mirror_collector.settings import Settings, SettingsError, load_settings  # noqa: PLC0415
    from mirror_collector.store import StoreError, StoreLimits  # noqa: PLC0415

    try:
        settings = Settings() if chosen["config"] is None else load_settings(chosen["config"])
    except SettingsError as error:
        raise click.ClickException(str(error)) from error
    config = Config(
        store=chosen["store"],
        settings=settings,
        key_file=chosen["encryption_keys"],
        grpc=chosen["grpc"],
        http=chosen["http"],
        pairing=PairingLimits(window=chosen["pair_window"], max_bytes=chosen["max_waiting_size"]),
        intake=IntakeLimits(max_bytes=chosen["max_queue_size"], max_body=chosen["max_body"]),
        limits=StoreLimits(retention=chosen["retention"], max_size=chosen["max_store_size"]),
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
    help="The file, or postgresql://user@host/database.",
)
_KEYS = click.option("--encryption-keys", type=_EXISTING, default=None, help="Keys that sealed messages.")


@main.command(
    epilog="\b\nExample:\n  mirror-collector export --format parquet --output pairs.parquet --route chat"
)
@_STORE
@_KEYS
@click.option("--format", "form", type=click.Choice(["jsonl", "parquet"]), default="jsonl", show_default=True)
@click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path), default=None, help="Default: stdout."
)
@click.option("--route", default=None, help="Only this route's pairs.")
@click.option("--without-messages", is_flag=True, help="Figures only.")
def export(
    *,
    store: str,
    encryption_keys: Path | None,
    form: str,
    output: Path | None,
    route: str | None,
    without_messages: bool,
) -> None:
    """Write stored pairs to a file, oldest first, one flat record each; the collector may go on running."""
    from mirror_collector.export import ExportError, write_jsonl, write_parquet  # noqa: PLC0415

    if form == "parquet" and output is None:
        raise click.UsageError("a Parquet file needs --output")
    try:
        with _reader(store, encryption_keys) as reader:
            pairs = reader.every(route)
            if form == "parquet" and output is not None:
                written = write_parquet(pairs, output, bodies=not without_messages, told=_told)
            else:
                with click.open_file("-" if output is None else str(output), "wb") as out:
                    written = write_jsonl(pairs, out, bodies=not without_messages, told=_told)
    except (ExportError, _store_error(), OSError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{written:,} pairs written", err=True)


@main.command(epilog="\b\nExample:\n  mirror-collector recompare --store pairs.sqlite")
@_STORE
@_KEYS
def recompare(*, store: str, encryption_keys: Path | None) -> None:
    """Measure stored pairs again with this version's comparison; the collector must not run.

    Sums and evidence of this comparison are made anew from the pairs there are.
    """
    from mirror_collector.store import Database, StoreLimits  # noqa: PLC0415

    try:
        with _reader(store, encryption_keys, make=True) as reader:
            database = Database(store, StoreLimits())
            try:
                done = database.recompare(reader, _told)
            finally:
                database.close()
    except _store_error() as error:
        raise click.ClickException(str(error)) from error
    left = f", {done.without_messages:,} without messages keep what they had" if done.without_messages else ""
    click.echo(f"{done.measured:,} pairs measured again{left}")


@main.command(epilog="\b\nExample:\n  mirror-collector forget --unit ada")
@_STORE
@click.option("--unit", default="", help="A user or session, as requests name it.")
@click.option("--request-id", default="", help="One request.")
def forget(*, store: str, unit: str, request_id: str) -> None:
    """Delete everything of one user, session or request.

    The collector must not run; it has DELETE /v1/pairs itself.
    """
    if bool(unit) == bool(request_id):
        raise click.UsageError("exactly one of --unit and --request-id is needed")
    from mirror_collector.store import Database, StoreLimits  # noqa: PLC0415

    try:
        database = Database(store, StoreLimits())
        try:
            deleted = database.forget(request_id=request_id, unit=unit)
        finally:
            database.close()
    except _store_error() as error:
        raise click.ClickException(str(error)) from error
    click.echo(", ".join(f"{count:,} {table}" for table, count in deleted.items()) + " deleted")


@contextmanager
def _reader(store: str, keys: Path | None, *, make: bool = False) -> Iterator[Reader]:
    """Open what is there for reading; with `make` an older store is brought up to date first."""
    from mirror_collector.store import Database, Reader, StoreError, StoreLimits, Vault  # noqa: PLC0415

    if "://" not in store and not Path(store).exists():
        raise StoreError(f"there is no store {store}")
    if make:
        Database(store, StoreLimits()).close()
    reader = Reader(store, Vault() if keys is None else Vault.from_file(keys))
    try:
        yield reader
    finally:
        reader.close()


def _store_error() -> type[Exception]:
    from mirror_collector.store import StoreError  # noqa: PLC0415

    return StoreError


def _told(done: int) -> None:
    if sys.stderr.isatty():
        click.echo(f"\r{done:,} pairs", nl=False, err=True)


async def _serve(config: Config) -> None:
    from mirror_collector.app import run  # noqa: PLC0415
    from mirror_collector.logs import start_logging  # noqa: PLC0415

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    signals = (signal.SIGTERM, signal.SIGINT)

    def ask_to_stop() -> None:
        stop.set()
        # A second signal ends the process at once.
        for number in signals:
            loop.remove_signal_handler(number)

    for number in signals:
        loop.add_signal_handler(number, ask_to_stop)
    await run(config, stop=stop, log=start_logging(sys.stderr))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """The loop of uvloop where it is installed, else None: the standard one."""
    try:
        factory: Callable[[], asyncio.AbstractEventLoop] = importlib.import_module("uvloop").new_event_loop
    except ImportError:
        return None
    return factory


if __name__ == "__main__":
    main(prog_name="mirror-collector")

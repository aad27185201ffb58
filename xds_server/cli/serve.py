"""`shiftplane serve`: the control plane."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import click

from xds_server.cli.bootstrap import host_port

if TYPE_CHECKING:
    from xds_server.bootstrap import HostPort

__all__ = ["serve"]


@click.command()
@click.option(
    "--xds", type=host_port, default="127.0.0.1:18000", show_default=True, help="Where proxies come in."
)
@click.option("--http", type=host_port, default="127.0.0.1:18001", show_default=True, help="API and metrics.")
@click.option(
    "--store",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("shiftplane.sqlite"),
    show_default=True,
    help="Specs, states and history.",
)
@click.option(
    "--specs",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=None,
    help="A folder of specs to apply, and to watch for changes.",
)
@click.option("--collector-grpc", type=host_port, default=None, help="Where proxies send captured legs.")
@click.option("--collector-http", default=None, help="The collector's base URL, for pairs in status.")
@click.option("--identifier", default="shiftplane", show_default=True, help="What proxies call this server.")
@click.option(
    "--acceptors",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="Processes that hold the proxies' streams; worth raising beyond some thousand proxies.",
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
)
def serve(  # noqa: PLR0913, PLR0917 - one parameter per option
    xds: HostPort,
    http: HostPort,
    store: Path,
    specs: Path | None,
    collector_grpc: HostPort | None,
    collector_http: str | None,
    identifier: str,
    acceptors: int,
    log_level: str,
) -> None:
    """Run the control plane. Proxies keep serving what they have whenever it is away.

    Example: shiftplane serve --specs specs/ --store /var/lib/shiftplane/state.sqlite
    """
    from xds_server import ir
    from xds_server.app import Config, run
    from xds_server.engine import EngineError
    from xds_server.logs import configure_logs
    from xds_server.loop import loop_factory
    from xds_server.store import StoreError

    configure_logs(log_level)
    config = Config(
        xds=str(xds),
        http_host=http.host,
        http_port=http.port,
        store=store,
        specs=specs,
        collector_grpc=(
            None if collector_grpc is None else ir.Address(host=collector_grpc.host, port=collector_grpc.port)
        ),
        collector_http=collector_http,
        identifier=identifier,
        acceptors=acceptors,
        log_level=log_level,
    )
    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(run(config))
    except (OSError, StoreError, EngineError) as error:
        raise click.ClickException(str(error)) from error

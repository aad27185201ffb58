"""`shiftplane serve`: the control plane."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import click

from xds_server.cli.bootstrap import host_port
from xds_server.cli.notify import read_notifications
from xds_server.cli.specs import read_settings

if TYPE_CHECKING:
    from xds_server.bootstrap import HostPort
    from xds_server.web import Access
    from xds_server.xds.server import TlsFiles
    from xds_server.xds.session import IdentityRule

__all__ = ["serve"]

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.option(
    "--xds", type=host_port, default="127.0.0.1:18000", show_default=True, help="Where proxies come in."
)
@click.option("--xds-tls-cert", type=_FILE, default=None, help="Its certificate chain (PEM), for TLS.")
@click.option("--xds-tls-key", type=_FILE, default=None, help="The key of --xds-tls-cert (PEM).")
@click.option(
    "--xds-tls-client-ca",
    type=_FILE,
    default=None,
    help="Who signs proxies' certificates (PEM): each has to show one, and to be the node it names.",
)
@click.option(
    "--xds-identity",
    multiple=True,
    metavar="TEMPLATE",
    help="Which names of a certificate speak for which node; repeatable. "
    "Default: 'spiffe://*/ns/*/sa/{group}' and 'dns:{id}'.",
)
@click.option("--xds-plaintext", is_flag=True, help="Speak plaintext to proxies that are not on this host.")
@click.option("--http", type=host_port, default="127.0.0.1:18001", show_default=True, help="API and metrics.")
@click.option("--http-tls-cert", type=_FILE, default=None, help="Its certificate chain (PEM), for TLS.")
@click.option("--http-tls-key", type=_FILE, default=None, help="The key of --http-tls-cert (PEM).")
@click.option(
    "--open",
    "is_open",
    is_flag=True,
    help="Nobody has to log in: whoever reaches the HTTP port is an admin. On loopback only.",
)
@click.option(
    "--public-url", default="", help="Where people reach the pages, if that is not where this listens."
)
@click.option(
    "--access",
    type=_FILE,
    default=None,
    help="Who may log in through an identity provider, and for how long (see docs/security.md).",
)
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
@click.option(
    "--collector-pages",
    default=None,
    help="Where people reach the collector's pages. Default: --collector-http.",
)
@click.option(
    "--collector-token-file",
    type=_FILE,
    default=None,
    help="The token the collector lets this in by; a viewer's is enough.",
)
@click.option(
    "--evidence-from",
    type=host_port,
    multiple=True,
    help="A collector whose evidence is counted; repeatable. Default: --collector-grpc.",
)
@click.option("--identifier", default="shiftplane", show_default=True, help="What proxies call this server.")
@click.option(
    "--acceptors",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="Processes that hold the proxies' streams; worth raising beyond some thousand proxies.",
)
@click.option(
    "--health-checks/--no-health-checks",
    default=True,
    show_default=True,
    help="Ask backends whether they live, and give users only to candidates that do.",
)
@click.option(
    "--token-statistics",
    "statistics",
    type=click.Choice(["envoy", "off"]),
    default="envoy",
    show_default=True,
    help="Whether proxies read from answers how many tokens they took.",
)
@click.option("--prometheus", default=None, help="Prometheus' base URL, for analyses with a query.")
@click.option(
    "--counts",
    type=click.Choice(["proxies", "prometheus"]),
    default="proxies",
    show_default=True,
    help="Who tells what proxies counted: themselves, or a Prometheus that scrapes them.",
)
@click.option(
    "--alarm-secret-file",
    type=_FILE,
    default=None,
    help="What senders of alarms share: Alertmanager's bearer token, and the key of signed webhooks.",
)
@click.option(
    "--notify",
    type=_FILE,
    default=None,
    help="Who is told of what happens to routes, and how (see docs/notifications.md).",
)
@click.option("--otlp", default=None, help="Base URL of an OpenTelemetry collector that takes traces (HTTP).")
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
)
def serve(  # noqa: PLR0913, PLR0917 - one parameter per option
    xds: HostPort,
    xds_tls_cert: Path | None,
    xds_tls_key: Path | None,
    xds_tls_client_ca: Path | None,
    xds_identity: tuple[str, ...],
    http: HostPort,
    http_tls_cert: Path | None,
    http_tls_key: Path | None,
    public_url: str,
    access: Path | None,
    store: Path,
    specs: Path | None,
    collector_grpc: HostPort | None,
    collector_http: str | None,
    collector_pages: str | None,
    collector_token_file: Path | None,
    evidence_from: tuple[HostPort, ...],
    identifier: str,
    acceptors: int,
    statistics: str,
    prometheus: str | None,
    counts: str,
    alarm_secret_file: Path | None,
    notify: Path | None,
    otlp: str | None,
    log_level: str,
    *,
    is_open: bool,
    xds_plaintext: bool,
    health_checks: bool,
) -> None:
    """Run the control plane. Proxies keep serving what they have whenever it is away.

    The first run prints an admin's token, once; see `shiftplane login` and `shiftplane token`.

    Example: shiftplane serve --specs specs/ --store /var/lib/shiftplane/state.sqlite
    """
    http_tls = _http_tls(http, http_tls_cert, http_tls_key, is_open=is_open)
    tls = _tls(xds, xds_tls_cert, xds_tls_key, xds_tls_client_ca, plaintext=xds_plaintext)
    rules = _rules(xds_identity, tls)
    if counts == "prometheus" and prometheus is None:
        raise click.UsageError("--counts prometheus needs --prometheus")
    allowed = None if access is None else _access(access)
    notifications = None if notify is None else read_notifications(notify)

    from xds_server import ir
    from xds_server.app import Config, run
    from xds_server.engine import EngineError
    from xds_server.logs import configure_logs
    from xds_server.loop import loop_factory
    from xds_server.store import StoreError
    from xds_server.web import Access
    from xds_server.xds.server import CertificatesError, ListenerConfig

    configure_logs(log_level)
    if tls is None and not xds.loopback:
        import structlog

        structlog.get_logger().warning(
            "xds_plaintext",
            address=str(xds),
            consequence="whoever reaches this port can read every group's configuration and pose as any node",
        )
    if http_tls is None and not http.loopback:
        import structlog

        structlog.get_logger().warning(
            "http_plaintext",
            address=str(http),
            consequence="tokens travel in the clear unless something before this port speaks TLS",
        )
    config = Config(
        listener=ListenerConfig(address=str(xds), identifier=identifier, tls=tls, identity=rules),
        http_host=http.host,
        http_port=http.port,
        store=store,
        specs=specs,
        collector_grpc=(
            None if collector_grpc is None else ir.Address(host=collector_grpc.host, port=collector_grpc.port)
        ),
        collector_http=collector_http,
        collector_token=collector_token_file,
        evidence=tuple(ir.Address(host=one.host, port=one.port) for one in evidence_from),
        workers=acceptors,
        health_checks=health_checks,
        token_statistics=statistics == "envoy",
        alarm_secret=alarm_secret_file,
        prometheus=prometheus,
        counts_from_prometheus=counts == "prometheus",
        notifications=notifications,
        otlp=otlp,
        log_level=log_level,
        is_open=is_open,
        public_url=public_url,
        access=allowed or Access(),
        collector_pages=collector_pages,
        http_tls=http_tls,
        show=click.echo,
    )
    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(run(config))
    except (OSError, StoreError, EngineError, CertificatesError) as error:
        raise click.ClickException(str(error)) from error


def _tls(
    xds: HostPort, certificate: Path | None, key: Path | None, client_ca: Path | None, *, plaintext: bool
) -> TlsFiles | None:
    """Return what to speak TLS with, or None for plaintext: nobody gets that by leaving something out."""
    if (certificate is None) != (key is None):
        raise click.UsageError("--xds-tls-cert and --xds-tls-key go together")
    if certificate is None or key is None:
        if client_ca is not None:
            raise click.UsageError("--xds-tls-client-ca needs --xds-tls-cert and --xds-tls-key")
        if not plaintext and not xds.loopback:
            raise click.UsageError(
                f"proxies on other hosts may come in at {xds}: give --xds-tls-cert and --xds-tls-key for TLS "
                "(and --xds-tls-client-ca, so that proxies show certificates too), or ask for plaintext with "
                "--xds-plaintext"
            )
        return None
    if plaintext:
        raise click.UsageError("--xds-plaintext and --xds-tls-cert exclude each other")
    from xds_server.xds.server import TlsFiles

    return TlsFiles(certificate=certificate, key=key, client_ca=client_ca)


def _access(file: Path) -> Access:
    """Read who may log in; the files it names are looked for beside it."""
    from xds_server.web import load_access

    return read_settings(file, load_access, "nobody could log in")


def _http_tls(
    http: HostPort, certificate: Path | None, key: Path | None, *, is_open: bool
) -> tuple[Path, Path] | None:
    """Return certificate and key of the HTTP port; refuses to be open to other hosts."""
    if is_open and not http.loopback:
        raise click.UsageError(
            f"--open lets everybody who reaches {http} do anything; only loopback is allowed"
        )
    if (certificate is None) != (key is None):
        raise click.UsageError("--http-tls-cert and --http-tls-key go together")
    return None if certificate is None or key is None else (certificate, key)


def _rules(templates: tuple[str, ...], tls: TlsFiles | None) -> tuple[IdentityRule, ...]:
    """Return the rules for nodes' certificates, where nodes show any."""
    from xds_server.xds.session import DEFAULT_TEMPLATES, TemplateError, parse_rule

    if tls is None or tls.client_ca is None:
        if templates:
            raise click.UsageError(
                "--xds-identity needs --xds-tls-client-ca: without it no proxy shows a name"
            )
        return ()
    try:
        return tuple(parse_rule(template) for template in templates or DEFAULT_TEMPLATES)
    except TemplateError as error:
        raise click.UsageError(f"--xds-identity: {error}") from error

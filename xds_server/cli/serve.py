"""`shiftplane serve`: run the control plane."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from xds_server.cli.bootstrap import host_port
from xds_server.cli.files import read_text
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
    "--xds",
    type=host_port,
    default="127.0.0.1:18000",
    show_default=True,
    help="Address of the xDS server for proxies.",
)
@click.option("--xds-tls-cert", type=_FILE, default=None, help="Path to the xDS TLS certificate chain (PEM).")
@click.option(
    "--xds-tls-key", type=_FILE, default=None, help="Path to the private key of --xds-tls-cert (PEM)."
)
@click.option(
    "--xds-tls-client-ca",
    type=_FILE,
    default=None,
    help="Path to the CA bundle of proxies (PEM). Requires client certificates that are signed by this CA "
    "and valid for the node ID or group of the proxy.",
)
@click.option(
    "--xds-identity",
    multiple=True,
    metavar="TEMPLATE",
    help="Template that maps names of a client certificate to nodes. Requires --xds-tls-client-ca. "
    "Repeatable. Default: 'spiffe://*/ns/*/sa/{group}' and 'dns:{id}'.",
)
@click.option("--xds-plaintext", is_flag=True, help="Allow plaintext xDS connections from other hosts.")
@click.option(
    "--http",
    type=host_port,
    default="127.0.0.1:18001",
    show_default=True,
    help="Address of the HTTP server for the API, pages and metrics.",
)
@click.option(
    "--http-tls-cert", type=_FILE, default=None, help="Path to the HTTP TLS certificate chain (PEM)."
)
@click.option(
    "--http-tls-key", type=_FILE, default=None, help="Path to the private key of --http-tls-cert (PEM)."
)
@click.option(
    "--open",
    "is_open",
    is_flag=True,
    help="Disable authentication: every HTTP client is an admin. Allowed on loopback only.",
)
@click.option(
    "--public-url", default="", help="External URL of the pages, if it differs from the --http address."
)
@click.option(
    "--access",
    type=_FILE,
    default=None,
    help="Path to the OIDC login settings (see docs/access.md).",
)
@click.option(
    "--store",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("shiftplane.sqlite"),
    show_default=True,
    help="Path to the SQLite store of specs, rollout states and history.",
)
@click.option(
    "--specs",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=None,
    help="Folder of specs to apply and to watch for changes.",
)
@click.option(
    "--collector-grpc", type=host_port, default=None, help="Address to which proxies send captured legs."
)
@click.option("--collector-http", default=None, help="Base URL of the collector API.")
@click.option(
    "--collector-pages",
    default=None,
    help="External URL of the collector pages. Default: --collector-http.",
)
@click.option(
    "--collector-token-file",
    type=_FILE,
    default=None,
    help="Path to a file with the token for the collector API. The role viewer is sufficient.",
)
@click.option(
    "--evidence-from",
    type=host_port,
    multiple=True,
    help="Address of a collector that provides evidence. Repeatable. Default: --collector-grpc.",
)
@click.option(
    "--identifier", default="shiftplane", show_default=True, help="Control plane identifier sent to proxies."
)
@click.option(
    "--workers",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="Number of worker processes for xDS streams. Increase it for several thousand proxies.",
)
@click.option("--acceptors", type=click.IntRange(1, 64), default=None, hidden=True)
@click.option(
    "--health-checks/--no-health-checks",
    default=True,
    show_default=True,
    help="Check the health of backends, and send users only to candidates with a healthy endpoint.",
)
@click.option(
    "--token-statistics",
    "statistics",
    type=click.Choice(["envoy", "off"]),
    default="envoy",
    show_default=True,
    help="Whether proxies read token counts, errors and end marks from responses (envoy) or not (off).",
)
@click.option(
    "--prometheus",
    default=None,
    help="Base URL of Prometheus. Required for metrics with a query and for --counts prometheus.",
)
@click.option(
    "--counts",
    type=click.Choice(["proxies", "prometheus"]),
    default="proxies",
    show_default=True,
    help="Source of request counts: the proxies, or a Prometheus that scrapes them.",
)
@click.option(
    "--alarm-secret-file",
    type=_FILE,
    default=None,
    help="Path to the secret of alarm senders: bearer token of Alertmanager and key of signed webhooks.",
)
@click.option(
    "--notify",
    type=_FILE,
    default=None,
    help="Path to the notification settings (see docs/notifications.md).",
)
@click.option("--otlp", default=None, help="Base URL of an OpenTelemetry collector for traces (OTLP/HTTP).")
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
    help="Minimum level of log events.",
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
    workers: int,
    acceptors: int | None,
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
    """Run the control plane. While it is down, proxies keep their last configuration.

    The first run prints an admin token once; see `shiftplane login` and `shiftplane token`.

    Example: shiftplane serve --specs specs/ --store /var/lib/shiftplane/state.sqlite
    """
    if acceptors is not None:
        if click.get_current_context().get_parameter_source("workers") is ParameterSource.COMMANDLINE:
            raise click.UsageError("options '--workers' and '--acceptors' are mutually exclusive")
        click.echo("option '--acceptors' is deprecated; use '--workers'", err=True)
        workers = acceptors
    http_tls = _http_tls(http, http_tls_cert, http_tls_key, is_open=is_open)
    tls = _tls(xds, xds_tls_cert, xds_tls_key, xds_tls_client_ca, plaintext=xds_plaintext)
    rules = _rules(xds_identity, tls)
    if counts == "prometheus" and prometheus is None:
        raise click.UsageError("--counts prometheus requires --prometheus")
    access_settings = None if access is None else _read_access(access)
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
            consequence="every client of this port can read all configurations and impersonate any node",
        )
    if http_tls is None and not http.loopback:
        import structlog

        structlog.get_logger().warning(
            "http_plaintext",
            address=str(http),
            consequence="tokens are sent unencrypted unless a proxy in front of this port terminates TLS",
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
        collector_token="" if collector_token_file is None else read_text(collector_token_file).strip(),
        evidence=tuple(ir.Address(host=one.host, port=one.port) for one in evidence_from),
        workers=workers,
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
        access=access_settings or Access(),
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
    """Return the TLS files of the xDS server; None for plaintext.

    Plaintext requires --xds-plaintext, except on a loopback address.
    """
    if (certificate is None) != (key is None):
        raise click.UsageError("--xds-tls-cert and --xds-tls-key must be used together")
    if certificate is None or key is None:
        if client_ca is not None:
            raise click.UsageError("--xds-tls-client-ca requires --xds-tls-cert and --xds-tls-key")
        if not plaintext and not xds.loopback:
            raise click.UsageError(
                f"other hosts can connect to --xds {xds}: use --xds-tls-cert and --xds-tls-key for TLS "
                "(and --xds-tls-client-ca to require client certificates), or allow plaintext with "
                "--xds-plaintext"
            )
        return None
    if plaintext:
        raise click.UsageError("--xds-plaintext and --xds-tls-cert are mutually exclusive")
    from xds_server.xds.server import TlsFiles

    return TlsFiles(certificate=certificate, key=key, client_ca=client_ca)


def _read_access(file: Path) -> Access:
    """Read a file of login settings, and the files it refers to by paths relative to its folder."""
    from xds_server.web import load_access

    return read_settings(file, load_access, "no user could log in")


def _http_tls(
    http: HostPort, certificate: Path | None, key: Path | None, *, is_open: bool
) -> tuple[Path, Path] | None:
    """Return certificate and key of the HTTP server (None: no TLS); reject --open except on loopback."""
    if is_open and not http.loopback:
        raise click.UsageError(
            f"--open makes every client of {http} an admin; --open is allowed only if --http is a loopback "
            "address, such as 127.0.0.1:18001"
        )
    if (certificate is None) != (key is None):
        raise click.UsageError("--http-tls-cert and --http-tls-key must be used together")
    return None if certificate is None or key is None else (certificate, key)


def _rules(templates: tuple[str, ...], tls: TlsFiles | None) -> tuple[IdentityRule, ...]:
    """Return the identity rules of client certificates; none without --xds-tls-client-ca."""
    from xds_server.xds.session import DEFAULT_TEMPLATES, TemplateError, parse_rule

    if tls is None or tls.client_ca is None:
        if templates:
            raise click.UsageError(
                "--xds-identity requires --xds-tls-client-ca, without which proxies send no certificate"
            )
        return ()
    try:
        return tuple(parse_rule(template) for template in templates or DEFAULT_TEMPLATES)
    except TemplateError as error:
        raise click.UsageError(f"--xds-identity: {error}") from error

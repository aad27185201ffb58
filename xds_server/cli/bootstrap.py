"""`shiftplane bootstrap`: print the bootstrap configuration of an Envoy."""

from __future__ import annotations

import socket

import click
import yaml

from xds_server.bootstrap import Bootstrap, HostPort, XdsTls, secrets
from xds_server.bootstrap import bootstrap as render

__all__ = ["bootstrap", "host_port"]


class _HostPort(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    name = "host:port"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> HostPort:
        if isinstance(value, HostPort):
            return value
        host, _, port = str(value).rpartition(":")
        if not host or not port.isdecimal() or not 0 <= int(port) <= 65_535:
            self.fail(
                f"{value!r} is not host:port; expected an address such as 127.0.0.1:18000 or [::1]:18000, "
                "with a port from 0 to 65535",
                param,
                ctx,
            )
        return HostPort(host=host.strip("[]"), port=int(port))


host_port = _HostPort()


@click.command()
@click.option(
    "--mode",
    type=click.Choice(["gateway", "sidecar"]),
    default="gateway",
    show_default=True,
    help="Role of the Envoy: in front of all model servers (gateway), or beside one model server (sidecar).",
)
@click.option("--group", required=True, help="Group of the proxy, equal to spec.proxies.group of its routes.")
@click.option("--node-id", default=None, help="Node ID. Default: the host name.")
@click.option(
    "--xds",
    type=host_port,
    default="127.0.0.1:18000",
    show_default=True,
    help="Address of the control plane.",
)
@click.option(
    "--xds-tls-ca", default=None, help="Path to the CA bundle of the control plane (PEM). Enables TLS."
)
@click.option("--xds-tls-cert", default=None, help="Path to the client certificate chain (PEM).")
@click.option("--xds-tls-key", default=None, help="Path to the private key of --xds-tls-cert (PEM).")
@click.option(
    "--xds-tls-name",
    default=None,
    help="Required DNS name, IP address or URI in the control plane certificate. Default: the host of --xds.",
)
@click.option(
    "--entry",
    type=host_port,
    default="0.0.0.0:10000",
    show_default=True,
    help="Address of the entry listener for users.",
)
@click.option(
    "--admin",
    type=host_port,
    default="127.0.0.1:9901",
    show_default=True,
    help="Address of the Envoy admin interface.",
)
@click.option(
    "--ready",
    type=host_port,
    default=None,
    help="Address of a listener for readiness probes. It responds to GET /ready with 200 until the proxy "
    "drains.",
)
@click.option(
    "--serve-port",
    type=int,
    default=8000,
    show_default=True,
    help="Port of the serve listener for other proxies (sidecar). Ignored with --serve.",
)
@click.option(
    "--serve",
    type=host_port,
    default=None,
    help="Address of the serve listener (sidecar). Default: 0.0.0.0 with the port of --serve-port.",
)
@click.option(
    "--app-port",
    type=int,
    default=8001,
    show_default=True,
    help="Port of the model server (sidecar). Ignored with --app.",
)
@click.option(
    "--app",
    type=host_port,
    default=None,
    help="Address of the model server (sidecar). Default: 127.0.0.1 with the port of --app-port.",
)
@click.option("--sotw", is_flag=True, help="Use SotW xDS instead of delta xDS.")
@click.option(
    "--stats-interval",
    type=click.FloatRange(0.1, 300),
    default=1.0,
    show_default=True,
    help="Interval of statistics sent to the control plane, in seconds.",
)
@click.option(
    "--all-stats",
    is_flag=True,
    help="Collect and send all Envoy statistics instead of the most useful ones.",
)
@click.option(
    "-o",
    "--output",
    type=click.Choice(["yaml", "json"]),
    default="yaml",
    show_default=True,
    help="Output format.",
)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, writable=True),
    default=None,
    help="File to write. Default: standard output.",
)
def bootstrap(  # noqa: PLR0913, PLR0917 - one parameter per option
    mode: str,
    group: str,
    node_id: str | None,
    xds: HostPort,
    xds_tls_ca: str | None,
    xds_tls_cert: str | None,
    xds_tls_key: str | None,
    xds_tls_name: str | None,
    entry: HostPort,
    admin: HostPort,
    ready: HostPort | None,
    serve_port: int,
    serve: HostPort | None,
    app_port: int,
    app: HostPort | None,
    output: str,
    out: str | None,
    *,
    stats_interval: float,
    all_stats: bool,
    sotw: bool,
) -> None:
    """Print an Envoy bootstrap configuration.

    Certificate paths are paths in the file system of Envoy. With --xds-tls-ca and --out, the command also
    writes files with SDS secrets beside the --out file, from which Envoy reloads changed certificates. Envoy
    must find these files at the same paths. Without --out, Envoy reads certificates once at start.

    Example: shiftplane bootstrap --group chat --xds 10.0.0.5:18000 > envoy.yaml && envoy -c envoy.yaml
    """
    sidecar = mode == "sidecar"
    tls = None
    if xds_tls_ca is not None:
        tls = _tls(xds_tls_ca, xds_tls_cert, xds_tls_key, xds_tls_name or xds.host, out)
    elif xds_tls_cert or xds_tls_key or xds_tls_name:
        raise click.UsageError(
            "--xds-tls-cert, --xds-tls-key and --xds-tls-name require --xds-tls-ca, which enables TLS"
        )
    settings = Bootstrap(
        node_id=node_id or socket.gethostname(),
        group=group,
        xds=xds,
        entry=entry,
        admin=admin,
        serve=(serve or HostPort(host="0.0.0.0", port=serve_port)) if sidecar else None,
        app=(app or HostPort(host="127.0.0.1", port=app_port)) if sidecar else None,
        ready=ready,
        delta=not sotw,
        xds_tls=tls,
        stats_interval=stats_interval,
        all_stats=all_stats,
    )
    if output == "json":
        import json

        text = json.dumps(render(settings), indent=2) + "\n"
    else:
        text = yaml.safe_dump(render(settings), sort_keys=False)
    if out is None:
        click.echo(text, nl=False)
        return

    from pathlib import Path

    if tls is not None:
        for file, secret in secrets(tls).items():
            Path(file).write_text(yaml.safe_dump(secret, sort_keys=False), encoding="utf-8")
    Path(out).write_text(text, encoding="utf-8")


def _tls(ca: str, certificate: str | None, key: str | None, name: str, out: str | None) -> XdsTls:
    if (certificate is None) != (key is None):
        raise click.UsageError("--xds-tls-cert and --xds-tls-key must be used together")

    from pathlib import Path

    # Absolute, because Envoy can be started in another folder.
    prefix = None if out is None else str(Path(out).absolute().with_suffix(""))
    return XdsTls(name=name, ca=ca, certificate=certificate, key=key, secrets=prefix)

"""`shiftplane bootstrap`: the file an Envoy starts with."""

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
            self.fail(f"{value!r} is not host:port, such as 127.0.0.1:18000 or [::1]:18000", param, ctx)
        return HostPort(host=host.strip("[]"), port=int(port))


host_port = _HostPort()


@click.command()
@click.option("--mode", type=click.Choice(["gateway", "sidecar"]), default="gateway", show_default=True)
@click.option("--group", required=True, help="Which proxies it belongs to: spec.proxies.group of the routes.")
@click.option("--node-id", default=None, help="Its own name; default: this host's.")
@click.option(
    "--xds", type=host_port, default="127.0.0.1:18000", show_default=True, help="The control plane."
)
@click.option(
    "--xds-tls-ca", default=None, help="Who signs the control plane's certificate (PEM): speak TLS."
)
@click.option("--xds-tls-cert", default=None, help="The certificate chain to show to it (PEM).")
@click.option("--xds-tls-key", default=None, help="The key of --xds-tls-cert (PEM).")
@click.option(
    "--xds-tls-name",
    default=None,
    help="The name its certificate must carry: DNS, address or URI. Default: the host of --xds.",
)
@click.option(
    "--entry", type=host_port, default="0.0.0.0:10000", show_default=True, help="Where users come in."
)
@click.option(
    "--admin", type=host_port, default="127.0.0.1:9901", show_default=True, help="Envoy's own pages."
)
@click.option("--ready", type=host_port, default=None, help="A listener that answers GET /ready, for probes.")
@click.option(
    "--serve-port", type=int, default=8000, show_default=True, help="Sidecar: where other proxies come in."
)
@click.option("--serve", type=host_port, default=None, help="Sidecar: the same with an address.")
@click.option(
    "--app-port", type=int, default=8001, show_default=True, help="Sidecar: the model server's own port."
)
@click.option("--app", type=host_port, default=None, help="Sidecar: the same with an address.")
@click.option("--sotw", is_flag=True, help="Speak state-of-the-world instead of delta discovery.")
@click.option(
    "--stats-interval",
    type=click.FloatRange(0.1, 300),
    default=5.0,
    show_default=True,
    help="Seconds between what it tells the control plane it counted.",
)
@click.option(
    "--all-stats",
    is_flag=True,
    help="Keep, and send, all of Envoy's statistics and not the most useful ones.",
)
@click.option("-o", "--output", type=click.Choice(["yaml", "json"]), default="yaml", show_default=True)
@click.option("--out", type=click.Path(dir_okay=False, writable=True), default=None, help="Write to a file.")
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
    """Print the bootstrap of one Envoy.

    Paths of certificates are those that Envoy sees. With --out, two small files beside it let Envoy follow
    changes of the certificates; without, it reads them once, when it starts.

    Example: shiftplane bootstrap --group chat --xds 10.0.0.5:18000 > envoy.yaml && envoy -c envoy.yaml
    """
    sidecar = mode == "sidecar"
    tls = None
    if xds_tls_ca is not None:
        tls = _tls(xds_tls_ca, xds_tls_cert, xds_tls_key, xds_tls_name or xds.host, out)
    elif xds_tls_cert or xds_tls_key or xds_tls_name:
        raise click.UsageError("--xds-tls-ca is missing: it says whom to trust, and turns TLS on")
    facts = Bootstrap(
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

        text = json.dumps(render(facts), indent=2) + "\n"
    else:
        text = yaml.safe_dump(render(facts), sort_keys=False)
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
        raise click.UsageError("--xds-tls-cert and --xds-tls-key go together")

    from pathlib import Path

    # Absolute, because Envoy may be started from elsewhere.
    prefix = None if out is None else str(Path(out).absolute().with_suffix(""))
    return XdsTls(name=name, ca=ca, certificate=certificate, key=key, secrets=prefix)

"""Mutual TLS between a real Envoy and the xDS port."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.pki import Authority, Pair, authority
from tests.support.plane import Plane, eventually, route
from xds_server.bootstrap import XdsTls

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.envoy import Envoy

pytestmark = pytest.mark.e2e

CHAT = "URI:spiffe://mesh/ns/prod/sa/chat"


@pytest.fixture
def ca(tmp_path: Path) -> Authority:
    return authority(tmp_path / "ca")


def facts(ca: Authority, pair: Pair, folder: Path) -> XdsTls:
    return XdsTls(
        name="xds.mesh",
        ca=str(ca.ca),
        certificate=str(pair.certificate),
        key=str(pair.key),
        secrets=str(folder / pair.certificate.stem),
    )


def start(plane: Plane, server: Pair, ca: Authority, *flags: str) -> Any:
    return plane.start_control_plane(
        f"--xds-tls-cert={server.certificate}",
        f"--xds-tls-key={server.key}",
        f"--xds-tls-client-ca={ca.ca}",
        *flags,
        collector=False,
    )


def answer(envoy: Envoy) -> int:
    with urllib.request.urlopen(envoy.entry + "/v1/models", timeout=5) as found:
        return int(found.status)


def metric(plane: Plane, name: str) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{plane.http}/metrics", timeout=5) as found:
        lines = found.read().decode().splitlines()
    return float(next(line for line in lines if line.startswith(f"{name} ")).rpartition(" ")[2])


def connected(plane: Plane) -> list[tuple[str, str]]:
    return [(one["id"], one["status"]) for one in plane.api.get("/v1/proxies")["proxies"]]


@pytest.mark.parametrize("flags", [(), ("--workers=2",)], ids=["one process", "acceptors"])
def test_an_envoy_is_served_by_its_certificate_and_another_group_is_refused(
    plane: Plane, ca: Authority, flags: tuple[str, ...]
) -> None:
    start(plane, ca.issue("server", "DNS:xds.mesh"), ca, *flags)
    plane.apply(route(("v1", plane.start_backend("v1").address)))
    served = plane.start_envoy("envoy-1", tls=facts(ca, ca.issue("one", CHAT), plane.folder))
    plane.until(lambda view: view["convergence"]["acked"] == 1)
    assert answer(served) == 200
    assert metric(plane, "shiftplane_xds_identity_refused_total") == 0
    plane.start_envoy(
        "envoy-2",
        tls=facts(ca, ca.issue("two", "URI:spiffe://mesh/ns/prod/sa/search"), plane.folder),
        wait=False,
    )
    eventually(lambda: metric(plane, "shiftplane_xds_identity_refused_total"), lambda found: found >= 2)
    # Workers report their proxies once a second.
    eventually(lambda: connected(plane), lambda found: found == [("envoy-1", "SYNCED")])
    (log,) = [process.log.read_text() for process in plane.processes if process.name == "control-plane"]
    assert "the certificate has spiffe://mesh/ns/prod/sa/search" in log
    assert answer(served) == 200


@pytest.mark.parametrize("name", ["IP:127.0.0.1", "URI:spiffe://mesh/ns/infra/sa/xds"])
def test_a_control_plane_may_go_by_an_address_or_a_uri(plane: Plane, ca: Authority, name: str) -> None:
    start(plane, ca.issue("server", name), ca)
    pair = ca.issue("one", "DNS:envoy-1")
    # Without SDS files: a bootstrap printed to a terminal refers to the certificates by path.
    tls = XdsTls(
        name=name.partition(":")[2], ca=str(ca.ca), certificate=str(pair.certificate), key=str(pair.key)
    )
    envoy = plane.start_envoy(tls=tls)
    eventually(lambda: connected(plane), lambda found: found == [("envoy-1", "SYNCED")])
    assert _stats(envoy)["cluster.shiftplane_xds.ssl.versions.TLSv1.3"] == 1


def test_an_envoy_rejects_another_server_of_the_same_ca(plane: Plane, ca: Authority) -> None:
    start(plane, ca.issue("impostor", "DNS:elsewhere.mesh"), ca)
    envoy = plane.start_envoy(tls=facts(ca, ca.issue("one", CHAT), plane.folder), wait=False)
    name = "cluster.shiftplane_xds.ssl.fail_verify_san"
    eventually(lambda: _stats(envoy).get(name, 0), lambda found: found >= 1)
    assert connected(plane) == []


def test_both_sides_follow_certificates_that_are_renewed(plane: Plane, ca: Authority) -> None:
    server, client = ca.issue("server", "DNS:xds.mesh"), ca.issue("one", CHAT, folder=plane.folder / "own")
    process = start(plane, server, ca)
    plane.apply(route(("v1", plane.start_backend("v1").address)))
    envoy = plane.start_envoy(tls=facts(ca, client, plane.folder))
    plane.until(lambda view: view["convergence"]["acked"] == 1)
    assert _serials(envoy) == {client.serial}
    client.replace(ca.issue("two", CHAT))
    server.replace(ca.issue("renewed", "DNS:xds.mesh"))
    eventually(lambda: _serials(envoy), lambda found: found == {client.serial})
    assert metric(plane, "shiftplane_xds_streams") == 1, "no stream was closed"
    assert _stats(envoy)["cluster.shiftplane_xds.ssl.handshake"] == 1
    # The next connections use the new certificates.
    process.kill()
    plane.processes.remove(process)
    process = start(plane, server, ca)
    eventually(lambda: connected(plane), lambda found: found == [("envoy-1", "SYNCED")])
    # A key that does not match its certificate changes nothing; a certificate of another group is refused.
    other = ca.issue("three", "URI:spiffe://mesh/ns/prod/sa/search")
    client.replace(Pair(certificate=other.certificate, key=client.key))
    process.kill()
    plane.processes.remove(process)
    process = start(plane, server, ca)
    eventually(lambda: connected(plane), lambda found: found == [("envoy-1", "SYNCED")])
    client.replace(other)
    process.kill()
    plane.processes.remove(process)
    start(plane, server, ca)
    eventually(lambda: metric(plane, "shiftplane_xds_identity_refused_total"), lambda found: found >= 1)
    assert answer(envoy) == 200, "a refused proxy still serves users"


def _serials(envoy: Envoy) -> set[str]:
    """Return the serial numbers of the certificates that Envoy presents to its control plane."""
    found = json.loads(envoy.get("/certs"))["certificates"]
    return {chain["serial_number"] for one in found for chain in one.get("cert_chain", ())}


def _stats(envoy: Envoy) -> dict[str, int]:
    """Return Envoy's TLS counters for its control plane; empty while it starts."""
    try:
        return envoy.stats("shiftplane_xds.*ssl")
    except urllib.error.URLError:
        return {}

"""Who may come in at the discovery port: TLS, certificates that change, and the nodes they speak for."""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import ssl
import subprocess
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from structlog.testing import capture_logs

from tests.support.pki import Authority, Pair, authority
from tests.support.pushing import pushing
from tests.xds.server.test_streams import METHOD, ServerHarness, read, send_request, until
from xds_server.xds.server import Certificates, CertificatesError, NodeAuthorizer, Server, TlsFiles
from xds_server.xds.session import DEFAULT_TEMPLATES, parse_rule
from xds_server.xds.snapshot import CLUSTER
from xds_server.xds.wire import discovery_pb2 as wire
from xds_server.xds.wire import status_pb2

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

CSDS = "/envoy.service.status.v3.ClientStatusDiscoveryService/FetchClientStatus"
SERVER = ("DNS:localhost", "IP:127.0.0.1")
CHAT = "URI:spiffe://mesh/ns/prod/sa/chat"


@pytest.fixture
def ca(tmp_path: Path) -> Authority:
    return authority(tmp_path)


@asynccontextmanager
async def securely_serving(files: TlsFiles, *templates: str) -> AsyncIterator[ServerHarness]:
    harness = ServerHarness()
    rules = [parse_rule(template) for template in templates or DEFAULT_TEMPLATES]
    certificates = Certificates(files)
    harness.server = Server(
        harness.hub,
        identifier="test",
        certificates=certificates,
        authorizer=NodeAuthorizer(rules if certificates.mutual else ()),
    )
    harness.port = await harness.server.start("127.0.0.1:0")
    try:
        async with pushing(harness.hub):
            yield harness
    finally:
        await harness.server.stop(0)


def files_of(ca: Authority, *, mutual: bool = True) -> TlsFiles:
    pair = ca.issue("server", *SERVER)
    return TlsFiles(certificate=pair.certificate, key=pair.key, client_ca=ca.ca if mutual else None)


def channel(harness: ServerHarness, roots: Path, pair: Pair | None = None) -> Any:
    credentials = grpc.ssl_channel_credentials(
        roots.read_bytes(),
        None if pair is None else pair.key.read_bytes(),
        None if pair is None else pair.certificate.read_bytes(),
    )
    return grpc.aio.secure_channel(f"127.0.0.1:{harness.port}", credentials)


async def status(call: Any) -> tuple[grpc.StatusCode, str]:
    """How a stream ended that should have ended without a word."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await read(call)
    return caught.value.code(), str(caught.value.details())


async def names_served(channel: Any, node: str = "n1") -> set[str]:
    call = channel.stream_stream(METHOD)()
    await send_request(call, CLUSTER, node=node)
    got = await read(call)
    call.cancel()
    return {wire.Resource.FromString(raw).name for raw in got.resources}


def served_fingerprint(port: int) -> str:
    """The fingerprint of the server certificate in a new connection."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", port), timeout=5) as plain,
        context.wrap_socket(plain) as secured,
    ):
        found = secured.getpeercert(binary_form=True)
    assert found is not None
    return hashlib.sha256(found).hexdigest()


def fingerprint(pair: Pair) -> str:
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pair.certificate.read_text())).hexdigest()


async def test_tls_without_a_client_ca_needs_no_client_certificate(ca: Authority) -> None:
    async with securely_serving(files_of(ca, mutual=False)) as harness, channel(harness, ca.ca) as secure:
        assert await names_served(secure) == {"chat/v1", "chat/v2"}
        async with grpc.aio.insecure_channel(f"127.0.0.1:{harness.port}") as plain:
            call = plain.stream_stream(METHOD)()
            assert (await status(call))[0] is grpc.StatusCode.UNAVAILABLE


async def test_a_client_without_a_certificate_of_the_ca_gets_no_stream(ca: Authority, tmp_path: Path) -> None:
    stranger = authority(tmp_path / "other").issue("n1", CHAT)
    async with securely_serving(files_of(ca)) as harness:
        for pair in (None, stranger):
            async with channel(harness, ca.ca, pair) as found:
                call = found.stream_stream(METHOD)()
                assert (await status(call))[0] is grpc.StatusCode.UNAVAILABLE
        assert harness.hub.connected == 0
        assert harness.hub.counters.nodes_denied == 0


@pytest.mark.parametrize(
    "names",
    [(CHAT,), ("DNS:n1",), (CHAT, "DNS:n1"), (CHAT, "DNS:n1.chat.svc", "email:n7", "IP:127.0.0.1")],
    ids=["group", "id", "both", "other names"],
)
async def test_a_certificate_is_accepted_for_its_node(ca: Authority, names: tuple[str, ...]) -> None:
    async with (
        securely_serving(files_of(ca)) as harness,
        channel(harness, ca.ca, ca.issue("n", *names)) as found,
    ):
        assert await names_served(found) == {"chat/v1", "chat/v2"}
        assert harness.hub.counters.nodes_denied == 0


@pytest.mark.parametrize(
    ("names", "code", "message"),
    [
        (("URI:spiffe://mesh/ns/prod/sa/search",), "PERMISSION_DENIED", "for another group"),
        (("DNS:n2",), "PERMISSION_DENIED", "for another id"),
        ((CHAT, "DNS:n2"), "PERMISSION_DENIED", "for another id"),
        (("DNS:n1", "URI:spiffe://mesh/ns/prod/sa/search"), "PERMISSION_DENIED", "for another group"),
        # E-mail addresses and common names are not checked, even if they equal the id.
        (("email:n1",), "UNAUTHENTICATED", "neither a URI nor a DNS name"),
        ((), "UNAUTHENTICATED", "neither a URI nor a DNS name"),
    ],
)
async def test_a_certificate_of_another_node_is_denied_with_the_reason(
    ca: Authority, names: tuple[str, ...], code: str, message: str
) -> None:
    # Only names that contain what differs can mend the denial.
    by_message = {"for another group": "spiffe://*/ns/*/sa/chat", "for another id": "dns:n1"}
    expected = by_message.get(message, "spiffe://*/ns/*/sa/chat or dns:n1")
    pair = ca.issue("n1", *names)
    async with securely_serving(files_of(ca)) as harness, channel(harness, ca.ca, pair) as found:
        with capture_logs() as logs:
            for _ in range(3):
                call = found.stream_stream(METHOD)()
                await send_request(call, CLUSTER)
                got, details = await status(call)
                assert got is grpc.StatusCode[code]
                assert "node 'n1' of group 'chat'" in details
                assert message in details
                assert f"expected: {expected}" in details
        (event,) = [one for one in logs if one["event"] == "xds_node_denied"]
        assert message in event["reason"]
        assert harness.hub.counters.nodes_denied == 3
        await until(lambda: harness.hub.connected == 0)
        assert harness.hub.convergence("chat").connected == 0
        assert harness.changed == [], "a denied proxy causes no notification"


async def test_templates_can_be_configured(ca: Authority) -> None:
    async with securely_serving(files_of(ca), "dns:{id}.{group}.mesh") as harness:
        async with channel(harness, ca.ca, ca.issue("one", "DNS:n1.chat.mesh")) as found:
            assert await names_served(found)
        async with channel(harness, ca.ca, ca.issue("other", CHAT, "DNS:n1")) as found:
            call = found.stream_stream(METHOD)()
            await send_request(call, CLUSTER)
            assert "expected: dns:n1.chat.mesh" in (await status(call))[1]


async def test_a_service_of_one_type_checks_the_certificate_too(ca: Authority) -> None:
    pair = ca.issue("n2", "DNS:n2")
    async with securely_serving(files_of(ca)) as harness, channel(harness, ca.ca, pair) as found:
        call = found.stream_stream("/envoy.service.cluster.v3.ClusterDiscoveryService/DeltaClusters")()
        await send_request(call, CLUSTER)
        assert (await status(call))[0] is grpc.StatusCode.PERMISSION_DENIED


async def test_client_status_shows_only_nodes_that_match_the_certificate(ca: Authority) -> None:
    ours, theirs = ca.issue("ours", CHAT), ca.issue("theirs", "URI:spiffe://mesh/ns/prod/sa/search")
    request = status_pb2.ClientStatusRequest().SerializeToString()
    async with (
        securely_serving(files_of(ca)) as harness,
        channel(harness, ca.ca, ours) as one,
        channel(harness, ca.ca, theirs) as other,
    ):
        call = one.stream_stream(METHOD)()
        await send_request(call, CLUSTER)
        await read(call)
        seen = status_pb2.ClientStatusResponse.FromString(await one.unary_unary(CSDS)(request))
        assert len(seen.config) == 1
        seen = status_pb2.ClientStatusResponse.FromString(await other.unary_unary(CSDS)(request))
        assert len(seen.config) == 0
        call.cancel()


async def test_new_certificates_apply_to_new_connections(ca: Authority) -> None:
    files = files_of(ca)
    current = Pair(certificate=files.certificate, key=files.key)
    async with securely_serving(files) as harness, channel(harness, ca.ca, ca.issue("n1", CHAT)) as old:
        call = old.stream_stream(METHOD)()
        await send_request(call, CLUSTER)
        first = await read(call)
        before = fingerprint(current)
        assert await asyncio.to_thread(served_fingerprint, harness.port) == before
        current.replace(ca.issue("renewed", *SERVER))
        with capture_logs() as logs:
            assert await asyncio.to_thread(served_fingerprint, harness.port) == fingerprint(current) != before
            assert await asyncio.to_thread(served_fingerprint, harness.port) == fingerprint(current)
        assert [one["event"] for one in logs] == ["xds_certificates_reloaded"]
        # The open connection and its stream are kept.
        await send_request(call, CLUSTER, nonce=first.nonce)
        await until(lambda: harness.hub.counters.acks["Cluster"] == 1)
        assert await names_served(old, "n2")
        call.cancel()


async def test_a_new_client_ca_replaces_the_old_one(ca: Authority, tmp_path: Path) -> None:
    trusted = tmp_path / "trusted.pem"
    trusted.write_bytes(ca.ca.read_bytes())
    files = files_of(ca)
    files = TlsFiles(certificate=files.certificate, key=files.key, client_ca=trusted)
    other = authority(tmp_path / "other")
    mine, theirs = ca.issue("mine", CHAT), other.issue("theirs", CHAT)
    async with securely_serving(files) as harness:
        async with channel(harness, ca.ca, mine) as found:
            assert await names_served(found)
        trusted.write_bytes(other.ca.read_bytes())
        async with channel(harness, ca.ca, theirs) as found:
            assert await names_served(found)
        async with channel(harness, ca.ca, mine) as found:
            assert (await status(found.stream_stream(METHOD)()))[0] is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("damage", ["garbage", "empty", "another key", "missing", "no CA"])
async def test_invalid_files_are_logged_once_and_the_old_ones_are_kept(ca: Authority, damage: str) -> None:
    files = files_of(ca)
    assert files.client_ca is not None
    current = Pair(certificate=files.certificate, key=files.key)
    client, before = ca.issue("n1", CHAT), fingerprint(current)
    roots = ca.folder / "roots.pem"
    roots.write_bytes(ca.ca.read_bytes())
    async with securely_serving(files) as harness:
        match damage:
            case "garbage":
                files.certificate.write_text("-----BEGIN CERTIFICATE-----\nnonsense\n")
            case "empty":
                files.certificate.write_text("")
            case "another key":
                files.key.write_bytes(ca.issue("stranger", *SERVER).key.read_bytes())
            case "missing":
                files.key.unlink()
            case _:
                files.client_ca.write_text("nonsense")
        with capture_logs() as logs:
            for _ in range(3):
                async with channel(harness, roots, client) as found:
                    assert await names_served(found)
            assert await asyncio.to_thread(served_fingerprint, harness.port) == before
        (event,) = [one for one in logs if one["event"] == "xds_certificates_rejected"]
        assert event["log_level"] == "error"
        assert str(files.certificate) in event["reason"]
        # Repaired files are used.
        files.client_ca.write_bytes(roots.read_bytes())
        current.replace(ca.issue("mended", *SERVER))
        assert await asyncio.to_thread(served_fingerprint, harness.port) == fingerprint(current) != before


def test_invalid_files_are_an_error_at_the_start(ca: Authority) -> None:
    files = files_of(ca)
    other = ca.issue("other", *SERVER)
    with pytest.raises(CertificatesError, match=r"server\.pem.*other\.key"):
        Certificates(TlsFiles(certificate=files.certificate, key=other.key))
    with pytest.raises(CertificatesError, match=r"nowhere\.pem"):
        Certificates(TlsFiles(certificate=ca.folder / "nowhere.pem", key=files.key))
    empty = ca.folder / "empty.pem"
    empty.write_text("")
    binary = ca.folder / "binary.pem"
    binary.write_bytes(b"----\xff")
    with pytest.raises(CertificatesError, match=r"binary\.pem: not ASCII text \(byte 4\)"):
        Certificates(TlsFiles(certificate=files.certificate, key=files.key, client_ca=binary))
    with pytest.raises(CertificatesError, match=r"empty\.pem"):
        Certificates(TlsFiles(certificate=files.certificate, key=files.key, client_ca=empty))


def test_an_encrypted_key_is_rejected_without_a_prompt(ca: Authority) -> None:
    pair = ca.issue("server", *SERVER)
    locked = ca.folder / "locked.key"
    message = [
        "openssl",
        "pkey",
        "-in",
        str(pair.key),
        "-aes256",
        "-passout",
        "pass:secret",
        "-out",
        str(locked),
    ]
    subprocess.run(message, check=True, capture_output=True, timeout=30)
    with pytest.raises(CertificatesError, match=r"locked\.key"):
        Certificates(TlsFiles(certificate=pair.certificate, key=locked))


def test_unchanged_files_are_not_read_again(ca: Authority) -> None:
    files = files_of(ca)
    certificates = Certificates(files)
    assert certificates.changed() is None
    os.utime(files.certificate)
    assert certificates.changed() is not None
    assert certificates.changed() is None

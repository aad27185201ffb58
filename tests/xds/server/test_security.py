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
from tests.xds.server.test_streams import METHOD, Desk, ask, read, until
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
async def securely_serving(files: TlsFiles, *templates: str) -> AsyncIterator[Desk]:
    desk = Desk()
    rules = [parse_rule(template) for template in templates or DEFAULT_TEMPLATES]
    certificates = Certificates(files)
    desk.server = Server(
        desk.hub,
        identifier="test",
        certificates=certificates,
        guard=NodeAuthorizer(rules if certificates.mutual else ()),
    )
    desk.port = await desk.server.start("127.0.0.1:0")
    pushing = asyncio.create_task(desk.hub.run())
    try:
        yield desk
    finally:
        pushing.cancel()
        await asyncio.gather(pushing, return_exceptions=True)
        await desk.server.stop(0)


def files_of(ca: Authority, *, mutual: bool = True) -> TlsFiles:
    pair = ca.issue("server", *SERVER)
    return TlsFiles(certificate=pair.certificate, key=pair.key, client_ca=ca.ca if mutual else None)


def channel(desk: Desk, roots: Path, pair: Pair | None = None) -> Any:
    credentials = grpc.ssl_channel_credentials(
        roots.read_bytes(),
        None if pair is None else pair.key.read_bytes(),
        None if pair is None else pair.certificate.read_bytes(),
    )
    return grpc.aio.secure_channel(f"127.0.0.1:{desk.port}", credentials)


async def status(call: Any) -> tuple[grpc.StatusCode, str]:
    """How a stream ended that should have ended without a word."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await read(call)
    return caught.value.code(), str(caught.value.details())


async def names_served(channel: Any, node: str = "n1") -> set[str]:
    call = channel.stream_stream(METHOD)()
    await ask(call, CLUSTER, node=node)
    got = await read(call)
    call.cancel()
    return {wire.Resource.FromString(raw).name for raw in got.resources}


def shown(port: int) -> str:
    """The fingerprint of the certificate a new connection is shown."""
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


async def test_tls_alone_asks_clients_for_nothing(ca: Authority) -> None:
    async with securely_serving(files_of(ca, mutual=False)) as desk, channel(desk, ca.ca) as secure:
        assert await names_served(secure) == {"chat/v1", "chat/v2"}
        async with grpc.aio.insecure_channel(f"127.0.0.1:{desk.port}") as plain:
            call = plain.stream_stream(METHOD)()
            assert (await status(call))[0] is grpc.StatusCode.UNAVAILABLE


async def test_a_client_without_a_certificate_of_ours_gets_no_stream(ca: Authority, tmp_path: Path) -> None:
    stranger = authority(tmp_path / "other").issue("n1", CHAT)
    async with securely_serving(files_of(ca)) as desk:
        for pair in (None, stranger):
            async with channel(desk, ca.ca, pair) as found:
                call = found.stream_stream(METHOD)()
                assert (await status(call))[0] is grpc.StatusCode.UNAVAILABLE
        assert desk.hub.connected == 0
        assert desk.hub.counters.identity_refused == 0


@pytest.mark.parametrize(
    "names",
    [(CHAT,), ("DNS:n1",), (CHAT, "DNS:n1"), (CHAT, "DNS:n1.chat.svc", "email:n7", "IP:127.0.0.1")],
    ids=["group", "id", "both", "other names"],
)
async def test_a_certificate_opens_the_door_to_its_node(ca: Authority, names: tuple[str, ...]) -> None:
    async with securely_serving(files_of(ca)) as desk, channel(desk, ca.ca, ca.issue("n", *names)) as found:
        assert await names_served(found) == {"chat/v1", "chat/v2"}
        assert desk.hub.counters.identity_refused == 0


@pytest.mark.parametrize(
    ("names", "code", "words"),
    [
        (("URI:spiffe://mesh/ns/prod/sa/search",), "PERMISSION_DENIED", "another group"),
        (("DNS:n2",), "PERMISSION_DENIED", "another id"),
        ((CHAT, "DNS:n2"), "PERMISSION_DENIED", "another id"),
        (("DNS:n1", "URI:spiffe://mesh/ns/prod/sa/search"), "PERMISSION_DENIED", "another group"),
        # An e-mail address or a common name that looks right is not the name that counts.
        (("email:n1",), "UNAUTHENTICATED", "neither a URI nor a DNS name"),
        ((), "UNAUTHENTICATED", "neither a URI nor a DNS name"),
    ],
)
async def test_a_certificate_of_another_node_is_told_so_and_nothing_else(
    ca: Authority, names: tuple[str, ...], code: str, words: str
) -> None:
    pair = ca.issue("n1", *names)
    async with securely_serving(files_of(ca)) as desk, channel(desk, ca.ca, pair) as found:
        with capture_logs() as logs:
            for _ in range(3):
                call = found.stream_stream(METHOD)()
                await ask(call, CLUSTER)
                got, details = await status(call)
                assert got is grpc.StatusCode[code]
                assert "node 'n1' of group 'chat'" in details
                assert words in details
                assert "accepted would be spiffe://*/ns/*/sa/chat or dns:n1" in details
        (event,) = [one for one in logs if one["event"] == "xds_identity_refused"]
        assert words in event["reason"]
        assert desk.hub.counters.identity_refused == 3
        await until(lambda: desk.hub.connected == 0)
        assert desk.hub.convergence("chat").connected == 0
        assert desk.changed == [], "nobody was told of a proxy that did not come in"


async def test_templates_are_the_operators_choice(ca: Authority) -> None:
    async with securely_serving(files_of(ca), "dns:{id}.{group}.mesh") as desk:
        async with channel(desk, ca.ca, ca.issue("one", "DNS:n1.chat.mesh")) as found:
            assert await names_served(found)
        async with channel(desk, ca.ca, ca.issue("other", CHAT, "DNS:n1")) as found:
            call = found.stream_stream(METHOD)()
            await ask(call, CLUSTER)
            assert "accepted would be dns:n1.chat.mesh" in (await status(call))[1]


async def test_a_service_of_one_type_asks_the_same_question(ca: Authority) -> None:
    pair = ca.issue("n2", "DNS:n2")
    async with securely_serving(files_of(ca)) as desk, channel(desk, ca.ca, pair) as found:
        call = found.stream_stream("/envoy.service.cluster.v3.ClusterDiscoveryService/DeltaClusters")()
        await ask(call, CLUSTER)
        assert (await status(call))[0] is grpc.StatusCode.PERMISSION_DENIED


async def test_client_status_shows_only_what_a_certificate_may_be(ca: Authority) -> None:
    ours, theirs = ca.issue("ours", CHAT), ca.issue("theirs", "URI:spiffe://mesh/ns/prod/sa/search")
    request = status_pb2.ClientStatusRequest().SerializeToString()
    async with (
        securely_serving(files_of(ca)) as desk,
        channel(desk, ca.ca, ours) as one,
        channel(desk, ca.ca, theirs) as other,
    ):
        call = one.stream_stream(METHOD)()
        await ask(call, CLUSTER)
        await read(call)
        seen = status_pb2.ClientStatusResponse.FromString(await one.unary_unary(CSDS)(request))
        assert len(seen.config) == 1
        seen = status_pb2.ClientStatusResponse.FromString(await other.unary_unary(CSDS)(request))
        assert len(seen.config) == 0
        call.cancel()


async def test_new_certificates_are_for_new_connections(ca: Authority) -> None:
    files = files_of(ca)
    current = Pair(certificate=files.certificate, key=files.key)
    async with securely_serving(files) as desk, channel(desk, ca.ca, ca.issue("n1", CHAT)) as old:
        call = old.stream_stream(METHOD)()
        await ask(call, CLUSTER)
        first = await read(call)
        before = fingerprint(current)
        assert await asyncio.to_thread(shown, desk.port) == before
        current.replace(ca.issue("renewed", *SERVER))
        with capture_logs() as logs:
            assert await asyncio.to_thread(shown, desk.port) == fingerprint(current) != before
            assert await asyncio.to_thread(shown, desk.port) == fingerprint(current)
        assert [one["event"] for one in logs] == ["xds_certificates_reloaded"]
        # The connection that was there lives on, and so does its stream.
        await ask(call, CLUSTER, nonce=first.nonce)
        await until(lambda: desk.hub.counters.accepted["Cluster"] == 1)
        assert await names_served(old, "n2")
        call.cancel()


async def test_a_new_client_ca_replaces_the_old_one(ca: Authority, tmp_path: Path) -> None:
    trusted = tmp_path / "trusted.pem"
    trusted.write_bytes(ca.ca.read_bytes())
    files = files_of(ca)
    files = TlsFiles(certificate=files.certificate, key=files.key, client_ca=trusted)
    other = authority(tmp_path / "other")
    mine, theirs = ca.issue("mine", CHAT), other.issue("theirs", CHAT)
    async with securely_serving(files) as desk:
        async with channel(desk, ca.ca, mine) as found:
            assert await names_served(found)
        trusted.write_bytes(other.ca.read_bytes())
        async with channel(desk, ca.ca, theirs) as found:
            assert await names_served(found)
        async with channel(desk, ca.ca, mine) as found:
            assert (await status(found.stream_stream(METHOD)()))[0] is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("damage", ["garbage", "empty", "another key", "missing", "no CA"])
async def test_broken_files_change_nothing_and_are_said_once(ca: Authority, damage: str) -> None:
    files = files_of(ca)
    assert files.client_ca is not None
    current = Pair(certificate=files.certificate, key=files.key)
    client, before = ca.issue("n1", CHAT), fingerprint(current)
    roots = ca.folder / "roots.pem"
    roots.write_bytes(ca.ca.read_bytes())
    async with securely_serving(files) as desk:
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
                async with channel(desk, roots, client) as found:
                    assert await names_served(found)
            assert await asyncio.to_thread(shown, desk.port) == before
        (event,) = [one for one in logs if one["event"] == "xds_certificates_refused"]
        assert event["log_level"] == "error"
        assert str(files.certificate) in event["reason"]
        # What is mended is used.
        files.client_ca.write_bytes(roots.read_bytes())
        current.replace(ca.issue("mended", *SERVER))
        assert await asyncio.to_thread(shown, desk.port) == fingerprint(current) != before


def test_files_that_make_no_sense_stop_a_start(ca: Authority) -> None:
    files = files_of(ca)
    other = ca.issue("other", *SERVER)
    with pytest.raises(CertificatesError, match=r"server\.pem.*other\.key"):
        Certificates(TlsFiles(certificate=files.certificate, key=other.key))
    with pytest.raises(CertificatesError, match=r"nowhere\.pem"):
        Certificates(TlsFiles(certificate=ca.folder / "nowhere.pem", key=files.key))
    empty = ca.folder / "empty.pem"
    empty.write_text("")
    with pytest.raises(CertificatesError, match=r"empty\.pem"):
        Certificates(TlsFiles(certificate=files.certificate, key=files.key, client_ca=empty))


def test_a_key_with_a_passphrase_is_refused_without_asking_for_it(ca: Authority) -> None:
    pair = ca.issue("server", *SERVER)
    locked = ca.folder / "locked.key"
    words = [
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
    subprocess.run(words, check=True, capture_output=True, timeout=30)
    with pytest.raises(CertificatesError, match=r"locked\.key"):
        Certificates(TlsFiles(certificate=pair.certificate, key=locked))


def test_files_that_were_not_touched_are_not_read_again(ca: Authority) -> None:
    files = files_of(ca)
    certificates = Certificates(files)
    assert certificates.changed() is None
    os.utime(files.certificate)
    assert certificates.changed() is not None
    assert certificates.changed() is None

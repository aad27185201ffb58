"""With the component xds-tls, both ends have certificates, and each accepts the names of the other."""

from __future__ import annotations

from tests.k8s.manifests import EXAMPLE, EXAMPLE_TLS, Container, Labels, flag, manifests
from xds_server.protocol import Peer, parse_rule, vet

FOLDER = "/etc/shiftplane/xds-tls"
FLAGS = {
    "--xds-plaintext",
    "--xds-tls-cert",
    "--xds-tls-key",
    "--xds-tls-client-ca",
    "--xds-tls-ca",
    "--xds-tls-name",
    "--xds-identity",
}
SIDECARS = ("vllm-v1", "vllm-v2")


def _spiffe_id(workload: str) -> str:
    """Return the SPIFFE ID that the driver writes into the certificate of a pod."""
    pod = manifests(EXAMPLE_TLS).workloads()[workload]
    account = pod["spec"]["template"]["spec"]["serviceAccountName"]
    return f"spiffe://cluster.local/ns/{pod['metadata']['namespace']}/sa/{account}"


def _expanded(container: Container, name: str) -> str:
    (space,) = {value["metadata"]["name"] for value in manifests(EXAMPLE_TLS).of("Namespace")}
    assert any(one["name"] == "NAMESPACE" for one in container.value["env"])
    return flag(container, name).replace("$(NAMESPACE)", space)


def _group(labels: Labels) -> str:
    return labels["shiftplane.dev/group"]


def test_nothing_but_the_security_of_the_port_changes() -> None:
    for plain in manifests(EXAMPLE).containers():
        secured = manifests(EXAMPLE_TLS).container(plain.workload, plain.name)
        words = [
            [word for word in one.value.get("command", ()) if word.partition("=")[0] not in FLAGS]
            for one in (plain, secured)
        ]
        assert words[0] == words[1], plain
    assert (
        "--xds-plaintext" not in manifests(EXAMPLE_TLS).container("xds-server", "xds-server").value["command"]
    )


def test_each_end_mounts_what_it_is_told_to_read() -> None:
    server = manifests(EXAMPLE_TLS).container("xds-server", "xds-server")
    for name in ("xds-tls-cert", "xds-tls-key", "xds-tls-client-ca"):
        assert flag(server, name).startswith(f"{FOLDER}/")
    readers = [server]
    for workload in SIDECARS:
        bootstrap = manifests(EXAMPLE_TLS).container(workload, "proxy-bootstrap")
        for name in ("xds-tls-ca", "xds-tls-cert", "xds-tls-key"):
            assert flag(bootstrap, name).startswith(f"{FOLDER}/")
        readers.append(manifests(EXAMPLE_TLS).container(workload, "proxy"))
    for container in readers:
        (mount,) = (one for one in container.value["volumeMounts"] if one["mountPath"] == FOLDER)
        (volume,) = (one for one in container.pod["volumes"] if one["name"] == mount["name"])
        assert volume["csi"]["driver"] == "spiffe.csi.cert-manager.io"
    holders = [
        one
        for one in manifests(EXAMPLE_TLS).containers()
        if any(mount["mountPath"] == FOLDER for mount in one.value.get("volumeMounts", ()))
    ]
    assert len(holders) == len(readers), "no other container can read a key"


def test_each_end_accepts_the_other_one() -> None:
    server = manifests(EXAMPLE_TLS).container("xds-server", "xds-server")
    rule = parse_rule(_expanded(server, "xds-identity"))
    for workload in SIDECARS:
        bootstrap = manifests(EXAMPLE_TLS).container(workload, "proxy-bootstrap")
        assert _expanded(bootstrap, "xds-tls-name") == _spiffe_id("xds-server")
        group = _group(manifests(EXAMPLE_TLS).labels(workload))
        vet([rule], Peer(uris=(_spiffe_id(workload),)), node_id="any", group=group)

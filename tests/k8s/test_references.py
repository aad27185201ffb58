"""All references resolve: schemas, selectors, ports, accounts, ConfigMaps, claims, addresses, specs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import kubernetes_validate
import pytest

from tests.k8s.manifests import BASE, EXAMPLE, EXAMPLE_TLS, ROOT, Manifests, flag, manifests, selects
from xds_server import spec

if TYPE_CHECKING:
    from tests.k8s.rendering import Object

OLDEST = "1.30"
NEWEST = kubernetes_validate.latest_version()
# Labels of pods that are not part of these manifests: operators, and in the base the proxies.
OUTSIDERS = {
    BASE: ({"shiftplane.dev/operator"}, {"shiftplane.dev/proxy"}),
    EXAMPLE: ({"shiftplane.dev/operator"},),
    EXAMPLE_TLS: ({"shiftplane.dev/operator"},),
}


@pytest.fixture(params=[BASE, EXAMPLE, EXAMPLE_TLS], scope="module")
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def rendered(name: str) -> Manifests:
    return manifests(name)


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_every_object_fits_its_schema(rendered: Manifests, version: str) -> None:
    for value in rendered.objects:
        kubernetes_validate.validate(value, version, strict=True)


def test_the_schema_check_would_notice_a_misspelt_field() -> None:
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(
            {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": {"port": []}},
            NEWEST,
            strict=True,
        )


def test_names_are_unique_and_namespaces_are_the_overlays_business(name: str, rendered: Manifests) -> None:
    names = [(value["kind"], value["metadata"]["name"]) for value in rendered.objects]
    assert len(names) == len(set(names))
    spaces = {
        value["metadata"].get("namespace") for value in rendered.objects if value["kind"] != "Namespace"
    }
    assert spaces == ({None} if name == BASE else rendered.names("Namespace"))


def test_selectors_select(name: str, rendered: Manifests) -> None:
    for workload, value in rendered.workloads().items():
        assert rendered.pods(value["spec"]["selector"]) == [workload]
    for service in rendered.of("Service"):
        assert rendered.pods(service["spec"]["selector"]), service["metadata"]
    for budget in rendered.of("PodDisruptionBudget"):
        assert len(rendered.pods(budget["spec"]["selector"])) == 1, budget["metadata"]
    for policy in rendered.of("NetworkPolicy"):
        assert rendered.pods(policy["spec"]["podSelector"]), policy["metadata"]
        for peer in _peers(policy):
            outside = set(peer["podSelector"].get("matchLabels", {})) in OUTSIDERS[name]
            assert bool(rendered.pods(peer["podSelector"])) != outside, (policy["metadata"], peer)


def _peers(policy: Object) -> list[Object]:
    rules = [*policy["spec"].get("ingress", ()), *policy["spec"].get("egress", ())]
    return [peer for rule in rules for peer in (*rule.get("from", ()), *rule.get("to", ()))]


def test_services_and_policies_name_ports_that_pods_have(rendered: Manifests) -> None:
    for service in rendered.of("Service"):
        for workload in rendered.pods(service["spec"]["selector"]):
            ports = rendered.ports(workload)
            for port in service["spec"]["ports"]:
                target = port["targetPort"]
                assert target in (ports if isinstance(target, str) else ports.values()), service["metadata"]
                if service["spec"].get("clusterIP") == "None":
                    assert port["port"] == target, "a headless Service does not translate ports"
    for policy in rendered.of("NetworkPolicy"):
        numbers = {
            port
            for workload in rendered.pods(policy["spec"]["podSelector"])
            for port in rendered.ports(workload).values()
        }
        admitted = {port["port"] for rule in policy["spec"].get("ingress", ()) for port in rule["ports"]}
        assert admitted <= numbers, policy["metadata"]


def test_probes_name_ports_of_their_container(rendered: Manifests) -> None:
    for container in rendered.containers():
        for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
            port = container.value.get(kind, {}).get("httpGet", {}).get("port")
            if isinstance(port, str):
                assert port in container.ports(), f"{container}: {kind}"
            elif port is not None:
                assert port in rendered.ports(container.workload).values(), f"{container}: {kind}"


def test_accounts_exist_and_hold_no_token(rendered: Manifests) -> None:
    for workload, value in rendered.workloads().items():
        pod = value["spec"]["template"]["spec"]
        assert pod["serviceAccountName"] in rendered.names("ServiceAccount"), workload
        assert pod["automountServiceAccountToken"] is False, workload
    for account in rendered.of("ServiceAccount"):
        assert account["automountServiceAccountToken"] is False, account["metadata"]
        users = [
            workload
            for workload, value in rendered.workloads().items()
            if value["spec"]["template"]["spec"]["serviceAccountName"] == account["metadata"]["name"]
        ]
        assert users, account["metadata"]


def test_mounts_have_volumes_and_volumes_have_sources(rendered: Manifests) -> None:
    for workload, value in rendered.workloads().items():
        pod = value["spec"]["template"]["spec"]
        volumes = {volume["name"] for volume in pod.get("volumes", ())}
        claims = {claim["metadata"]["name"] for claim in value["spec"].get("volumeClaimTemplates", ())}
        assert not volumes & claims
        mounted = {
            mount["name"]
            for container in rendered.containers(workload)
            for mount in container.value.get("volumeMounts", ())
        }
        assert mounted == volumes | claims, workload
        for volume in pod.get("volumes", ()):
            if "configMap" in volume:
                assert volume["configMap"]["name"] in rendered.names("ConfigMap"), workload
    used = {
        volume["configMap"]["name"]
        for value in rendered.workloads().values()
        for volume in value["spec"]["template"]["spec"].get("volumes", ())
        if "configMap" in volume
    }
    assert used == rendered.names("ConfigMap")


def test_a_headless_or_own_service_stands_behind_every_stateful_set(rendered: Manifests) -> None:
    for value in rendered.of("StatefulSet"):
        service = rendered.one("Service", value["spec"]["serviceName"])
        assert selects(service["spec"]["selector"], rendered.labels(value["metadata"]["name"]))


def test_addresses_on_command_lines_are_services(rendered: Manifests) -> None:
    control_plane = rendered.container("xds-server", "xds-server")
    addresses = [
        flag(control_plane, "collector-grpc"),
        flag(control_plane, "collector-http").removeprefix("http://"),
        *(flag(one, "xds") for one in rendered.containers() if one.name == "proxy-bootstrap"),
    ]
    assert [rendered.resolves(address) for address in addresses] == [None] * len(addresses)


def _specs(rendered: Manifests) -> dict[str, str]:
    return dict(rendered.one("ConfigMap", "route-specs")["data"])


def test_specs_are_accepted_without_a_warning(rendered: Manifests) -> None:
    loaded = [spec.load(text, file=file) for file, text in _specs(rendered).items()]
    assert loaded
    assert [str(problem) for one in loaded for problem in one.problems] == []
    assert spec.check_together(loaded) == ()


def test_specs_reach_the_pods_of_their_backends() -> None:
    rendered = manifests(EXAMPLE)
    routes = [route for file, text in _specs(rendered).items() for route in spec.load(text, file=file).routes]
    groups = {rendered.labels(name).get("shiftplane.dev/group") for name in rendered.workloads()}
    for route in routes:
        assert route.spec.proxies.group in groups
        for backend in route.spec.backends:
            assert backend.dns is not None
            assert rendered.resolves(f"{backend.dns.host}:{backend.dns.port}") is None
            chosen = rendered.pods(rendered.one("Service", backend.dns.host)["spec"]["selector"])
            labels = [rendered.labels(workload)["shiftplane.dev/backend"] for workload in chosen]
            assert labels == [backend.name], "one backend is one Deployment"


def test_every_spec_file_is_in_a_config_map() -> None:
    for name in (BASE, EXAMPLE):
        files = {path.name for path in (ROOT / "k8s" / name / "specs").iterdir()}
        assert files == set(_specs(manifests(name)))

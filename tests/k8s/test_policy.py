"""Tests the rules for every pod: security settings, resource limits, probes, network policies, shutdown."""

from __future__ import annotations

import pytest

from tests.k8s.manifests import BASE, EXAMPLE, EXAMPLE_TLS, Container, flag, manifests

PROXY = {"shiftplane.dev/proxy": "true"}
OPERATOR = {"shiftplane.dev/operator": "true"}
OTHER = {"app": "other"}
CONTROL_PLANE = manifests(EXAMPLE).labels("xds-server")
COLLECTOR = manifests(EXAMPLE).labels("mirror-collector")
CONTAINERS = [one for name in (BASE, EXAMPLE, EXAMPLE_TLS) for one in manifests(name).containers()]


def _named(container: Container) -> str:
    return str(container)


@pytest.fixture(params=CONTAINERS, ids=_named)
def container(request: pytest.FixtureRequest) -> Container:
    assert isinstance(request.param, Container)
    return request.param


def test_a_container_has_restricted_rights(container: Container) -> None:
    own = container.value["securityContext"]
    effective = container.pod["securityContext"] | own
    assert effective["runAsNonRoot"] is True
    assert effective["runAsUser"] > 0
    assert effective["runAsGroup"] > 0
    assert effective["seccompProfile"] == {"type": "RuntimeDefault"}
    assert own["allowPrivilegeEscalation"] is False
    assert own["readOnlyRootFilesystem"] is True
    assert own["capabilities"] == {"drop": ["ALL"]}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(container.pod)


def test_a_container_has_requests_and_a_memory_limit(container: Container) -> None:
    resources = container.value["resources"]
    assert {"cpu", "memory"} <= set(resources["requests"])
    assert "memory" in resources["limits"]
    assert "cpu" not in resources["limits"], "throttling would slow down users"


def test_an_image_has_a_version(container: Container) -> None:
    name, _, tag = container.value["image"].rpartition(":")
    assert name
    assert tag != "latest"


def test_lasting_containers_have_probes_and_init_containers_have_none(container: Container) -> None:
    probes = {key for key in container.value if key.endswith("Probe")}
    wanted = {"startupProbe", "readinessProbe"} if container.lasting else set()
    if container.lasting and container.name != "proxy":  # a restart of the proxy would interrupt every stream
        wanted.add("livenessProbe")
    assert probes == wanted


def test_a_volume_in_memory_or_on_the_node_is_bounded(container: Container) -> None:
    for volume in container.pod["volumes"]:
        assert "hostPath" not in volume
        if "emptyDir" in volume:
            assert "sizeLimit" in volume["emptyDir"], volume["name"]


@pytest.mark.parametrize(
    ("callee", "port", "callers"),
    [
        ("xds-server", 18000, [PROXY]),
        ("xds-server", 18001, [OPERATOR]),
        ("mirror-collector", 18002, [PROXY, CONTROL_PLANE]),
        ("mirror-collector", 18003, [OPERATOR, CONTROL_PLANE]),
    ],
)
def test_only_its_callers_reach_a_port(callee: str, port: int, callers: list[dict[str, str]]) -> None:
    callers_tried = [PROXY, OPERATOR, OTHER, {}, CONTROL_PLANE, COLLECTOR]
    for rendered in (manifests(BASE), manifests(EXAMPLE), manifests(EXAMPLE_TLS)):
        allowed = [labels for labels in callers_tried if rendered.may_call(labels, callee, port)]
        assert allowed == [labels for labels in callers_tried if labels in callers]


def test_users_reach_the_entry_port_and_only_proxies_the_serve_port() -> None:
    rendered = manifests(EXAMPLE)
    for workload in ("vllm-v1", "vllm-v2"):
        ports = rendered.ports(workload)
        assert rendered.may_call(OTHER, workload, ports["entry"])
        assert rendered.may_call(PROXY, workload, ports["serve"])
        assert rendered.may_call(CONTROL_PLANE, workload, ports["serve"]), "for health checks"
        assert not rendered.may_call(OTHER, workload, ports["serve"])
        assert not rendered.may_call(OPERATOR, workload, ports["serve"])
        assert not rendered.may_call(PROXY, workload, ports["ready"]), (
            "only the kubelet uses it, and policies do not apply to the kubelet"
        )


def test_control_plane_and_collector_may_open_only_required_connections() -> None:
    rendered = manifests(BASE)
    assert rendered.may_leave("xds-server", COLLECTOR, 18003)
    assert rendered.may_leave("xds-server", OTHER, 53)
    assert rendered.may_leave("xds-server", PROXY, 8000)
    assert not rendered.may_leave("xds-server", OTHER, 8000)
    assert rendered.may_leave("xds-server", COLLECTOR, 18002)
    assert not rendered.may_leave("xds-server", OTHER, 443)
    assert not rendered.may_leave("mirror-collector", OTHER, 53)


def test_pods_with_a_proxy_have_the_proxy_label() -> None:
    rendered = manifests(EXAMPLE)
    with_proxy = {one.workload for one in rendered.containers() if one.name == "proxy"}
    assert with_proxy == set(rendered.pods(PROXY)) == {"vllm-v1", "vllm-v2"}


def test_a_store_has_one_writer_and_a_persistent_volume() -> None:
    for value in manifests(BASE).workloads().values():
        assert value["kind"] == "StatefulSet"
        assert value["spec"]["replicas"] == 1
        (claim,) = value["spec"]["volumeClaimTemplates"]
        (container,) = manifests(BASE).containers(value["metadata"]["name"])
        mounts = {mount["mountPath"]: mount for mount in container.value["volumeMounts"]}
        folder, _, _ = flag(container, "store").rpartition("/")
        assert mounts[folder] == {"name": claim["metadata"]["name"], "mountPath": folder}


def test_specs_are_watched_where_they_are_mounted() -> None:
    container = manifests(BASE).container("xds-server", "xds-server")
    (mount,) = (
        one for one in container.value["volumeMounts"] if one["mountPath"] == flag(container, "specs")
    )
    assert mount["readOnly"] is True
    assert "subPath" not in mount, "the kubelet does not update files mounted by subPath"
    (volume,) = (one for one in container.pod["volumes"] if one["name"] == mount["name"])
    # The name has no hash: with one, every edit would restart the control plane.
    assert volume["configMap"]["name"] == "route-specs"


@pytest.mark.parametrize("workload", ["vllm-v1", "vllm-v2"])
def test_a_pod_shuts_down_in_order(workload: str) -> None:
    rendered = manifests(EXAMPLE)
    vllm, proxy = rendered.container(workload, "vllm"), rendered.container(workload, "proxy")
    settings = {item["name"]: item.get("value") for item in proxy.value["env"]}
    waits = vllm.value["lifecycle"]["preStop"]["sleep"]["seconds"]
    finishes = waits + int(flag(vllm, "shutdown-timeout"))
    settles, limit = int(settings["DRAIN_SETTLE_SECONDS"]), int(settings["DRAIN_LIMIT_SECONDS"])
    assert 0 < settles <= waits, "vLLM still answers until clients have detected the drain"
    assert finishes < limit, "the proxy waits longer than vLLM needs to finish"
    assert limit + 10 < proxy.pod["terminationGracePeriodSeconds"], "no process is killed before that"
    assert proxy.value["restartPolicy"] == "Always", "stopped after vLLM, not with it"
    assert proxy.value["lifecycle"]["preStop"]["exec"]["command"][-1].endswith("/drain.sh")


@pytest.mark.parametrize("workload", ["vllm-v1", "vllm-v2"])
def test_no_client_can_bypass_the_proxy(workload: str) -> None:
    rendered = manifests(EXAMPLE)
    vllm, bootstrap = rendered.container(workload, "vllm"), rendered.container(workload, "proxy-bootstrap")
    assert flag(vllm, "host") == "127.0.0.1"
    assert flag(bootstrap, "app") == f"127.0.0.1:{flag(vllm, 'port')}"
    assert flag(bootstrap, "admin").startswith("127.0.0.1:")
    order = [one.name for one in rendered.containers(workload)]
    assert order == ["proxy-bootstrap", "proxy", "vllm"], "each starts before the next one needs it"


@pytest.mark.parametrize("workload", ["vllm-v1", "vllm-v2"])
def test_container_ports_match_the_bootstrap(workload: str) -> None:
    rendered = manifests(EXAMPLE)
    bootstrap, proxy = (rendered.container(workload, name) for name in ("proxy-bootstrap", "proxy"))
    opened = {
        name: int(flag(bootstrap, name).rpartition(":")[2]) for name in ("entry", "serve", "ready", "admin")
    }
    settings = {item["name"]: item.get("value") for item in proxy.value["env"]}
    assert proxy.ports() == {name: opened[name] for name in ("entry", "serve", "ready")}
    for name in ("entry", "ready", "admin"):
        assert settings[f"{name.upper()}_PORT"] == str(opened[name])
    written, read = flag(bootstrap, "out"), flag(proxy, "config-path")
    assert written == read


def test_both_models_run_with_the_same_settings() -> None:
    first, second = (manifests(EXAMPLE).container(name, "vllm") for name in ("vllm-v1", "vllm-v2"))
    different = {key for key in first.value if first.value[key] != second.value[key]}
    assert different == {"args"}
    assert first.value["args"][1:] == second.value["args"][1:]
    assert first.pod.keys() == second.pod.keys()

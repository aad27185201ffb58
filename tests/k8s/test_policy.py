"""Rules for every pod: few privileges, bounded memory, probes, network policies, graceful termination."""

from __future__ import annotations

import pytest

from tests.k8s.manifests import BASE, EXAMPLE, EXAMPLE_TLS, Container, flag, manifests

PROXY = {"shiftplane.dev/proxy": "true"}
OPERATOR = {"shiftplane.dev/operator": "true"}
STRANGER = {"app": "stranger"}
CONTROL_PLANE = manifests(EXAMPLE).labels("xds-server")
COLLECTOR = manifests(EXAMPLE).labels("mirror-collector")
CONTAINERS = [one for name in (BASE, EXAMPLE, EXAMPLE_TLS) for one in manifests(name).containers()]


def _named(container: Container) -> str:
    return str(container)


@pytest.fixture(params=CONTAINERS, ids=_named)
def container(request: pytest.FixtureRequest) -> Container:
    assert isinstance(request.param, Container)
    return request.param


def test_a_container_has_few_rights(container: Container) -> None:
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


def test_a_container_says_what_it_needs(container: Container) -> None:
    resources = container.value["resources"]
    assert {"cpu", "memory"} <= set(resources["requests"])
    assert "memory" in resources["limits"]
    assert "cpu" not in resources["limits"], "users would notice throttling"


def test_an_image_has_a_version(container: Container) -> None:
    name, _, tag = container.value["image"].rpartition(":")
    assert name
    assert tag != "latest"


def test_what_lasts_is_probed_and_what_ends_is_not(container: Container) -> None:
    probes = {key for key in container.value if key.endswith("Probe")}
    wanted = {"startupProbe", "readinessProbe"} if container.lasting else set()
    if container.lasting and container.name != "proxy":  # its restart would cut every stream
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
def test_only_who_needs_a_port_reaches_it(callee: str, port: int, callers: list[dict[str, str]]) -> None:
    everyone = [PROXY, OPERATOR, STRANGER, {}, CONTROL_PLANE, COLLECTOR]
    for rendered in (manifests(BASE), manifests(EXAMPLE), manifests(EXAMPLE_TLS)):
        allowed = [labels for labels in everyone if rendered.may_call(labels, callee, port)]
        assert allowed == [labels for labels in everyone if labels in callers]


def test_users_enter_by_the_entry_and_only_proxies_by_the_serve_port() -> None:
    rendered = manifests(EXAMPLE)
    for workload in ("vllm-v1", "vllm-v2"):
        ports = rendered.ports(workload)
        assert rendered.may_call(STRANGER, workload, ports["entry"])
        assert rendered.may_call(PROXY, workload, ports["serve"])
        assert rendered.may_call(CONTROL_PLANE, workload, ports["serve"]), "for health checks"
        assert not rendered.may_call(STRANGER, workload, ports["serve"])
        assert not rendered.may_call(OPERATOR, workload, ports["serve"])
        assert not rendered.may_call(PROXY, workload, ports["ready"]), (
            "only the kubelet, which is always allowed"
        )


def test_both_programs_call_only_whom_they_must() -> None:
    rendered = manifests(BASE)
    assert rendered.may_leave("xds-server", COLLECTOR, 18003)
    assert rendered.may_leave("xds-server", STRANGER, 53)
    assert rendered.may_leave("xds-server", PROXY, 8000)
    assert not rendered.may_leave("xds-server", STRANGER, 8000)
    assert rendered.may_leave("xds-server", COLLECTOR, 18002)
    assert not rendered.may_leave("xds-server", STRANGER, 443)
    assert not rendered.may_leave("mirror-collector", STRANGER, 53)


def test_pods_with_a_proxy_carry_the_label_that_lets_them_in() -> None:
    rendered = manifests(EXAMPLE)
    with_proxy = {one.workload for one in rendered.containers() if one.name == "proxy"}
    assert with_proxy == set(rendered.pods(PROXY)) == {"vllm-v1", "vllm-v2"}


def test_a_store_has_one_writer_and_a_volume_that_stays() -> None:
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
    assert "subPath" not in mount, "Kubernetes never updates a file of a subPath"
    (volume,) = (one for one in container.pod["volumes"] if one["name"] == mount["name"])
    # An edit must update this object: with a hash in its name, every edit would restart the program.
    assert volume["configMap"]["name"] == "route-specs"


@pytest.mark.parametrize("workload", ["vllm-v1", "vllm-v2"])
def test_a_pod_ends_in_order(workload: str) -> None:
    rendered = manifests(EXAMPLE)
    vllm, proxy = rendered.container(workload, "vllm"), rendered.container(workload, "proxy")
    settings = {item["name"]: item.get("value") for item in proxy.value["env"]}
    waits = vllm.value["lifecycle"]["preStop"]["sleep"]["seconds"]
    finishes = waits + int(flag(vllm, "shutdown-timeout"))
    settles, limit = int(settings["DRAIN_SETTLE_SECONDS"]), int(settings["DRAIN_LIMIT_SECONDS"])
    assert 0 < settles <= waits, "vLLM still serves clients that have not yet seen the termination"
    assert finishes < limit, "the proxy runs longer than vLLM takes to finish"
    assert limit + 10 < proxy.pod["terminationGracePeriodSeconds"], "the grace period covers both"
    assert proxy.value["restartPolicy"] == "Always", "stopped after vLLM, not with it"
    assert proxy.value["lifecycle"]["preStop"]["exec"]["command"][-1].endswith("/drain.sh")


@pytest.mark.parametrize("workload", ["vllm-v1", "vllm-v2"])
def test_the_proxy_cannot_be_bypassed(workload: str) -> None:
    rendered = manifests(EXAMPLE)
    vllm, bootstrap = rendered.container(workload, "vllm"), rendered.container(workload, "proxy-bootstrap")
    assert flag(vllm, "host") == "127.0.0.1"
    assert flag(bootstrap, "app") == f"127.0.0.1:{flag(vllm, 'port')}"
    assert flag(bootstrap, "admin").startswith("127.0.0.1:")
    order = [one.name for one in rendered.containers(workload)]
    assert order == ["proxy-bootstrap", "proxy", "vllm"], "each is available before the next needs it"


@pytest.mark.parametrize("workload", ["vllm-v1", "vllm-v2"])
def test_ports_are_the_ones_the_bootstrap_opens(workload: str) -> None:
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


def test_both_models_are_run_alike() -> None:
    first, second = (manifests(EXAMPLE).container(name, "vllm") for name in ("vllm-v1", "vllm-v2"))
    different = {key for key in first.value if first.value[key] != second.value[key]}
    assert different == {"args"}
    assert first.value["args"][1:] == second.value["args"][1:]
    assert first.pod.keys() == second.pod.keys()

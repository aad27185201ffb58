"""Rendered Kubernetes objects, with selectors, network policies and Services evaluated as a cluster does."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from tests.k8s.rendering import Object, pod_template, render

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "BASE",
    "EXAMPLE",
    "EXAMPLE_TLS",
    "ROOT",
    "Container",
    "Labels",
    "Manifests",
    "flag",
    "manifests",
    "selects",
]

ROOT: Final = Path(__file__).parents[2]
BASE: Final = "base"
EXAMPLE: Final = "overlays/example"
EXAMPLE_TLS: Final = "overlays/example-tls"

Labels: TypeAlias = dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """A container, its pod spec, and whether it runs as long as its pod (`lasting`)."""

    workload: str
    value: Object
    pod: Object
    lasting: bool

    @property
    def name(self) -> str:
        return str(self.value["name"])

    def __str__(self) -> str:
        return f"{self.workload}/{self.name}"

    def ports(self) -> dict[str, int]:
        return {port["name"]: port["containerPort"] for port in self.value.get("ports", ())}


@dataclass(frozen=True, slots=True)
class Manifests:
    """All objects that one kustomization renders."""

    objects: tuple[Object, ...]

    def of(self, *kinds: str) -> list[Object]:
        return [value for value in self.objects if value["kind"] in kinds]

    def one(self, kind: str, name: str) -> Object:
        (found,) = (value for value in self.of(kind) if value["metadata"]["name"] == name)
        return found

    def names(self, kind: str) -> set[str]:
        return {value["metadata"]["name"] for value in self.of(kind)}

    def workloads(self) -> dict[str, Object]:
        return {value["metadata"]["name"]: value for value in self.objects if pod_template(value) is not None}

    def pods(self, selector: Object) -> list[str]:
        """Return the workloads whose pods a selector matches."""
        return [name for name in self.workloads() if selects(selector, self.labels(name))]

    def labels(self, workload: str) -> Labels:
        return dict(self.workloads()[workload]["spec"]["template"]["metadata"]["labels"])

    def containers(self, workload: str | None = None) -> Iterator[Container]:
        for name, value in self.workloads().items():
            pod = value["spec"]["template"]["spec"]
            if workload in {None, name}:
                for one in pod.get("initContainers", ()):
                    lasting = one.get("restartPolicy") == "Always"
                    yield Container(workload=name, value=one, pod=pod, lasting=lasting)
                for one in pod["containers"]:
                    yield Container(workload=name, value=one, pod=pod, lasting=True)

    def container(self, workload: str, name: str) -> Container:
        (found,) = (one for one in self.containers(workload) if one.name == name)
        return found

    def ports(self, workload: str) -> dict[str, int]:
        """Return the ports of a pod, by name."""
        found: dict[str, int] = {}
        for container in self.containers(workload):
            found |= container.ports()
        return found

    def may_call(self, caller: Labels, callee: str, port: int) -> bool:
        """Return whether network policies allow a pod of this namespace with these labels to reach a port."""
        policies = [
            value["spec"]
            for value in self.of("NetworkPolicy")
            if "Ingress" in value["spec"]["policyTypes"]
            and selects(value["spec"]["podSelector"], self.labels(callee))
        ]
        return not policies or any(
            _allows(rule, "from", caller, port) for policy in policies for rule in policy.get("ingress", ())
        )

    def may_leave(self, caller: str, callee: Labels, port: int) -> bool:
        """Return whether network policies allow one of our pods to call a pod of this namespace."""
        policies = [
            value["spec"]
            for value in self.of("NetworkPolicy")
            if "Egress" in value["spec"]["policyTypes"]
            and selects(value["spec"]["podSelector"], self.labels(caller))
        ]
        return not policies or any(
            _allows(rule, "to", callee, port) for policy in policies for rule in policy.get("egress", ())
        )

    def resolves(self, address: str) -> str | None:
        """Return the problem of a `service:port` address in this namespace; None if it reaches a pod."""
        host, _, port = address.rpartition(":")
        if host not in self.names("Service"):
            return f"there is no Service {host}"
        service = self.one("Service", host)["spec"]
        if int(port) not in {item["port"] for item in service["ports"]}:
            return f"Service {host} has no port {port}"
        return None


@cache
def manifests(name: str) -> Manifests:
    """Return the objects of `k8s/<name>`; they are cached, so callers must not change them."""
    return Manifests(tuple(render(ROOT / "k8s" / name)))


def selects(selector: Object, labels: Labels) -> bool:
    """Return whether a selector, of a Service or with matchLabels, matches pods with these labels."""
    assert "matchExpressions" not in selector, "not supported here"
    wanted = selector.get("matchLabels", {}) if set(selector) <= {"matchLabels"} else selector
    return all(labels.get(key) == value for key, value in wanted.items())


def flag(container: Container, name: str) -> str:
    """Return the value of `--name=value` or `--name value` on a container's command line."""
    arguments = [*container.value.get("command", ()), *container.value.get("args", ())]
    if f"--{name}" in arguments:
        return str(arguments[arguments.index(f"--{name}") + 1])
    (found,) = (one.partition("=")[2] for one in arguments if one.startswith(f"--{name}="))
    return str(found)


def _allows(rule: Object, direction: str, peer: Labels, port: int) -> bool:
    peers = rule.get(direction)
    ports = {item["port"] for item in rule["ports"]}
    return port in ports and (peers is None or any(selects(one["podSelector"], peer) for one in peers))

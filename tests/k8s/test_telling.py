"""The component `notify`, and the manifests for Prometheus and Grafana."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.k8s.manifests import BASE, EXAMPLE_TLS, ROOT, Manifests, flag
from tests.k8s.rendering import Object, render

if TYPE_CHECKING:
    from pathlib import Path


def with_component(folder: Path, name: str) -> Manifests:
    """Return the objects of an overlay with the component."""
    up = os.path.relpath(ROOT / "k8s", folder)
    (folder / "kustomization.yaml").write_text(
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n"
        f"resources: [{up}/{name}]\ncomponents: [{up}/components/notify]\n",
        encoding="utf-8",
    )
    return Manifests(tuple(render(folder)))


@pytest.mark.parametrize("name", [BASE, EXAMPLE_TLS])
def test_the_control_plane_finds_its_settings(name: str, tmp_path: Path) -> None:
    rendered = with_component(tmp_path, name)
    container = rendered.container("xds-server", "xds-server")
    folder, _, file = flag(container, "notify").rpartition("/")
    assert file == "notify.yaml"
    (mount,) = [one for one in container.value["volumeMounts"] if one["mountPath"] == folder]
    (volume,) = [one for one in container.pod["volumes"] if one["name"] == mount["name"]]
    assert volume["secret"]["secretName"] == "notifications"
    assert {one["mountPath"] for one in container.value["volumeMounts"]} >= {"/var/lib/shiftplane"}


def test_only_the_control_plane_may_call_out(tmp_path: Path) -> None:
    rendered, anywhere = with_component(tmp_path, BASE), {"app": "anything"}
    assert rendered.may_leave("xds-server", anywhere, 443)
    assert not rendered.may_leave("xds-server", anywhere, 80)
    assert not rendered.may_leave("mirror-collector", anywhere, 443)


def monitoring() -> dict[str, Object]:
    return {value["kind"]: value for value in render(ROOT / "k8s/monitoring")}


def test_grafanas_sidecar_finds_the_dashboard_and_the_operator_the_alerts() -> None:
    found = monitoring()
    assert set(found) == {"ConfigMap", "PrometheusRule"}
    assert found["ConfigMap"]["metadata"]["labels"] == {"grafana_dashboard": "1"}
    (text,) = found["ConfigMap"]["data"].values()
    assert json.loads(text)["title"] == "shiftplane"
    assert len(text.encode()) < 1 << 20, "the size limit of a ConfigMap"


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="compares with kubectl's kustomize")
def test_kustomize_itself_says_the_same() -> None:
    command = ["kubectl", "kustomize", str(ROOT / "k8s/monitoring")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert {value["kind"]: value for value in yaml.safe_load_all(done.stdout)} == monitoring()

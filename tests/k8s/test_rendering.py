from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.k8s.manifests import BASE, EXAMPLE, EXAMPLE_TLS, ROOT, manifests
from tests.k8s.rendering import Object, UnsupportedError, render

if TYPE_CHECKING:
    from pathlib import Path

DEPLOYMENT = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: app, labels: {patched: "yes"}}
spec:
  template:
    metadata: {}
    spec:
      containers: [{name: main, image: "registry:5000/app:1", args: [a]}, {name: other, image: "b:1"}]
      volumes: [{name: one, configMap: {name: settings}}]
"""


def _by_name(objects: list[Object]) -> dict[tuple[str, str], Object]:
    return {(value["kind"], value["metadata"]["name"]): value for value in objects}


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="compares with kubectl's kustomize")
@pytest.mark.parametrize("name", [BASE, EXAMPLE, EXAMPLE_TLS])
def test_kustomize_itself_says_the_same(name: str) -> None:
    done = subprocess.run(
        ["kubectl", "kustomize", ROOT / "k8s" / name],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert _by_name(list(manifests(name).objects)) == _by_name(list(yaml.safe_load_all(done.stdout)))


def _folder(folder: Path, kustomization: str, **files: str) -> Path:
    (folder / "kustomization.yaml").write_text(f"kind: Kustomization\n{kustomization}", encoding="utf-8")
    (folder / "app.yaml").write_text(DEPLOYMENT, encoding="utf-8")
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    return folder


def test_patches_labels_images_and_names(tmp_path: Path) -> None:
    folder = _folder(
        tmp_path,
        """\
resources: [app.yaml]
namespace: here
configMapGenerator: [{name: settings, files: [merge.yaml]}]
patches:
  - {path: merge.yaml, target: {kind: Deployment, labelSelector: "patched=yes"}}
  - {path: add.yaml, target: {kind: Deployment, labelSelector: "patched=yes"}}
labels: [{pairs: {team: platform}, includeTemplates: true}]
images: [{name: "registry:5000/app", newTag: "2"}]
""",
        merge="spec: {template: {spec: {containers: [{name: new, image: 'c:1'}, {name: main, tty: true}]}}}",
        add="[{op: add, path: /spec/template/spec/containers/1/args/-, value: b}]",
    )
    deployment, settings = render(folder)
    pod = deployment["spec"]["template"]["spec"]
    assert pod["containers"] == [
        {"name": "new", "image": "c:1"},
        {"name": "main", "image": "registry:5000/app:2", "args": ["a", "b"], "tty": True},
        {"name": "other", "image": "b:1"},
    ]
    assert deployment["spec"]["template"]["metadata"]["labels"] == {"team": "platform"}
    assert deployment["metadata"]["namespace"] == "here"
    assert settings["metadata"]["name"].startswith("settings-")
    assert pod["volumes"] == [{"name": "one", "configMap": {"name": settings["metadata"]["name"]}}]


@pytest.mark.parametrize(
    "kustomization",
    [
        "resources: [app.yaml]\nnamePrefix: x-",
        "resources: [app.yaml]\nlabels: [{pairs: {a: b}, includeSelectors: true}]",
        "resources: [app.yaml]\nimages: [{name: b, digest: 'sha256:0'}]",
        "resources: [app.yaml]\npatches: [{path: p.yaml, target: {kind: Job, labelSelector: 'patched=yes'}}]",
        "resources: [app.yaml]\npatches: [{path: p.yaml, target: {kind: Deployment, name: app}}]",
        "configMapGenerator: [{name: a, behavior: replace, files: [app.yaml]}]",
        "configMapGenerator: [{name: a, behavior: merge, files: [app.yaml]}]",
        "configMapGenerator: [{name: a, literals: [a=b]}]",
    ],
)
def test_what_it_does_not_know_is_refused(kustomization: str, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError):
        render(_folder(tmp_path, kustomization, p="spec: {replicas: 2}"))


@pytest.mark.parametrize(
    "patch",
    [
        "spec: {template: {spec: {containers: [{name: main, $patch: delete}]}}}",
        "spec: {template: {spec: {$patch: replace, containers: []}}}",
        "[{op: remove, path: /spec/template}]",
    ],
)
def test_patches_it_does_not_know_are_refused(patch: str, tmp_path: Path) -> None:
    kustomization = (
        "resources: [app.yaml]\n"
        "patches: [{path: p.yaml, target: {kind: Deployment, labelSelector: 'patched=yes'}}]"
    )
    with pytest.raises(UnsupportedError):
        render(_folder(tmp_path, kustomization, p=patch))

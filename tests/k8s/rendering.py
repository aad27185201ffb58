"""Renders the features of kustomize that k8s/ uses, so that tests do not need an installed kustomize.

Supported: resources, components, patches with a target (strategic merge and JSON 6902), namespace, labels,
images, and configMapGenerator with name hashes. Any other feature raises UnsupportedError, so that nothing is
silently rendered in another way. If kubectl is installed, a test compares the two.
"""

from __future__ import annotations

import copy
import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["Object", "UnsupportedError", "documents", "pod_template", "render"]

Object: TypeAlias = dict[str, Any]

_CLUSTER_WIDE: Final = {"Namespace"}
_MERGE_KEYS: Final = {
    "containers": "name",
    "initContainers": "name",
    "volumes": "name",
    "env": "name",
    "volumeMounts": "mountPath",
}
_KNOWN: Final = {
    "kustomization": {
        "apiVersion", "kind", "resources", "components", "configMapGenerator", "patches", "namespace",
        "labels", "images",
    },
    "target": {"kind", "labelSelector"},
    "labels": {"pairs", "includeTemplates"},
    "image": {"name", "newName", "newTag"},
    "generator": {"name", "behavior", "files", "options"},
    "options": {"disableNameSuffixHash", "labels"},
}  # fmt: skip


class UnsupportedError(Exception):
    """A kustomization uses an unsupported feature, or refers to an object that does not exist."""


@dataclass(slots=True, kw_only=True)
class _Item:
    """An object being rendered, and whether its name finally gets a hash of its content."""

    value: Object
    hashed: bool = False


def render(folder: Path) -> list[Object]:
    """Return the objects of a kustomization.

    Raises:
        UnsupportedError: The kustomization uses an unsupported feature.
    """
    items: list[_Item] = []
    _build(folder, items)
    _add_hashes(items)
    return [item.value for item in items]


def documents(file: Path) -> list[Object]:
    """Return the objects of one YAML file."""
    return [found for found in yaml.safe_load_all(file.read_text(encoding="utf-8")) if found is not None]


def pod_template(value: Object) -> Object | None:
    """Return the pod template of a workload; None for anything else."""
    template = value.get("spec", {}).get("template")
    return template if isinstance(template, dict) else None


def _build(folder: Path, items: list[_Item]) -> None:
    """Add the objects of `folder` to `items`; a component also changes existing items."""
    wanted = _checked("kustomization", yaml.safe_load((folder / "kustomization.yaml").read_text("utf-8")))
    inherited = items if wanted["kind"] == "Component" else []
    for name in wanted.get("resources", ()):
        path = folder / name
        if path.is_dir():
            _build(path, inherited)
        else:
            inherited.extend(_Item(value=value) for value in documents(path))
    for name in wanted.get("components", ()):
        _build(folder / name, inherited)
    for generator in wanted.get("configMapGenerator", ()):
        _generate(folder, _checked("generator", generator), inherited)
    for patch in wanted.get("patches", ()):
        _patch(folder, patch, inherited)
    for item in inherited:
        _transform(item.value, wanted)
    if inherited is not items:
        items.extend(inherited)


def _checked(what: str, value: Object) -> Object:
    if unknown := set(value) - _KNOWN[what]:
        raise UnsupportedError(f"{what}: {sorted(unknown)} is not supported here")
    return value


def _generate(folder: Path, generator: Object, items: list[_Item]) -> None:
    options = _checked("options", generator.get("options", {}))
    made = _Item(
        value={
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": generator["name"],
                **({"labels": dict(options["labels"])} if "labels" in options else {}),
            },
            "data": {
                name.rsplit("/", 1)[-1]: (folder / name).read_text("utf-8") for name in generator["files"]
            },
        },
        hashed=not options.get("disableNameSuffixHash", False),
    )
    behavior = generator.get("behavior", "create")
    if behavior == "create":
        items.append(made)
        return
    if behavior != "replace":
        raise UnsupportedError(f"behavior {behavior} is not supported here")
    for item in items:
        if item.value["kind"] == "ConfigMap" and item.value["metadata"]["name"] == generator["name"]:
            item.value["data"] = made.value["data"]
            item.hashed = made.hashed
            return
    raise UnsupportedError(f"there is no ConfigMap {generator['name']} to replace")


def _patch(folder: Path, patch: Object, items: list[_Item]) -> None:
    target = _checked("target", patch["target"])
    pairs = [pair.split("=") for pair in target["labelSelector"].split(",")]
    chosen = [
        item.value
        for item in items
        if item.value["kind"] == target["kind"]
        and all(item.value["metadata"].get("labels", {}).get(key) == value for key, value in pairs)
    ]
    if not chosen:
        raise UnsupportedError(f"the patch {patch['path']} matches no object")
    change = yaml.safe_load((folder / patch["path"]).read_text("utf-8"))
    for value in chosen:
        if isinstance(change, list):
            for operation in change:
                _operate(value, operation)
        else:
            _merge(value, {key: part for key, part in change.items() if key not in {"kind", "metadata"}})


def _operate(value: Object, operation: Object) -> None:
    """Apply one operation of a JSON 6902 patch."""
    *parents, last = (part.replace("~1", "/").replace("~0", "~") for part in operation["path"][1:].split("/"))
    place: Any = value
    for part in parents:
        place = place[int(part)] if isinstance(place, list) else place[part]
    match operation["op"], place:
        case "add", list() if last == "-":
            place.append(copy.deepcopy(operation["value"]))
        case "add", dict():
            place[last] = copy.deepcopy(operation["value"])
        case other, _:
            raise UnsupportedError(f"operation {other} of {operation['path']} is not supported here")


def _merge(into: Object, change: Object) -> None:
    """Apply a strategic merge; objects in lists are matched by their merge key, and new ones come first."""
    if directives := [key for key in change if key.startswith("$")]:
        raise UnsupportedError(f"{directives} is not supported here")
    for key, new in change.items():
        old = into.get(key)
        if new is None:
            into.pop(key, None)
        elif isinstance(new, dict) and isinstance(old, dict):
            _merge(old, new)
        elif isinstance(new, list) and isinstance(old, list) and any(isinstance(part, dict) for part in new):
            if key not in _MERGE_KEYS:
                raise UnsupportedError(f"the merge key of {key} is not supported here")
            into[key] = _merged_list(old, new, _MERGE_KEYS[key])
        else:
            into[key] = copy.deepcopy(new)


def _merged_list(old: list[Object], new: list[Object], key: str) -> list[Object]:
    known = {item[key]: item for item in old}
    added = []
    for item in new:
        if item[key] in known:
            _merge(known[item[key]], item)
        else:
            added.append(copy.deepcopy(item))
    return added + old


def _transform(value: Object, wanted: Object) -> None:
    template = pod_template(value)
    if "namespace" in wanted:
        if value["kind"] in _CLUSTER_WIDE:
            value["metadata"]["name"] = wanted["namespace"]
        else:
            value["metadata"]["namespace"] = wanted["namespace"]
    for labels in wanted.get("labels", ()):
        _checked("labels", labels)
        value["metadata"].setdefault("labels", {}).update(labels["pairs"])
        if labels.get("includeTemplates", False):
            for part in [template, *value.get("spec", {}).get("volumeClaimTemplates", ())]:
                if part is not None:
                    part["metadata"].setdefault("labels", {}).update(labels["pairs"])
    for image in wanted.get("images", ()):
        _checked("image", image)
        for container in _containers(template):
            name, _, tag = container["image"].rpartition(":")
            if name == image["name"]:
                container["image"] = f"{image.get('newName', name)}:{image.get('newTag', tag)}"


def _containers(template: Object | None) -> Iterator[Object]:
    if template is not None:
        yield from template["spec"].get("initContainers", ())
        yield from template["spec"]["containers"]


def _add_hashes(items: list[_Item]) -> None:
    renamed: dict[str, str] = {}
    for item in items:
        if item.hashed:
            name = item.value["metadata"]["name"]
            renamed[name] = item.value["metadata"]["name"] = f"{name}-{_hash(item.value['data'])}"
    for item in items:
        template = pod_template(item.value)
        for volume in () if template is None else template["spec"].get("volumes", ()):
            source = volume.get("configMap")
            if source is not None:
                source["name"] = renamed.get(source["name"], source["name"])


def _hash(data: dict[str, str]) -> str:
    """Return kustomize's hash: ten characters of the SHA-256 of Go's JSON, without look-alikes."""
    content = {"data": data, "kind": "ConfigMap", "name": ""}
    text = json.dumps(content, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    letters = hashlib.sha256(text.encode()).hexdigest()[:10]
    return letters.translate(str.maketrans("013ae", "ghkmt"))

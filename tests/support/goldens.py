"""Golden files: a spec and the state of its rollout in, the resources out, one file per type."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.support.configs import SCRIPTS
from xds_server import ir
from xds_server.compiler import compile_resources
from xds_server.plan import RouteTraffic
from xds_server.spec import load
from xds_server.translate import Scripts, render

__all__ = ["GOLDEN", "Case", "cases", "rendered", "resources_of"]

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
ENTRY = ir.Address(host="127.0.0.1", port=10_000)
_LONG = 40
"""The length of a list, such as the clusters of a split into cells, from which each item has one line."""
COLLECTOR = ir.Address(host="127.0.0.1", port=18_002)
# The scripts are separate files; a change in one should not change every golden file.
NAMES = Scripts(capture="-- envoy/lua/capture.lua", rewrite="-- envoy/lua/rewrite.lua")


@dataclass(frozen=True, slots=True)
class Case:
    """One spec file; comments such as `# traffic: chat weight=500 mirror=0` set the rollout state.

    `# virtual hosts apart` sends each virtual host as a separate resource.
    """

    name: str
    text: str

    @property
    def folder(self) -> Path:
        return GOLDEN / "out" / self.name

    @property
    def traffic(self) -> list[RouteTraffic]:
        states = {
            match[1]: (int(match[2]), int(match[3]))
            for match in re.finditer(r"# traffic: (\S+) weight=(\d+) mirror=(\d+)", self.text)
        }
        loaded = load(self.text, file=self.name)
        assert loaded.ok, [str(problem) for problem in loaded.problems]
        return [RouteTraffic.with_weight(route, *states[route.metadata.name]) for route in loaded.routes]


def cases() -> list[Case]:
    return [Case(p.stem, p.read_text(encoding="utf-8")) for p in sorted((GOLDEN / "in").glob("*.yaml"))]


def resources_of(
    case: Case, scripts: Scripts = SCRIPTS, envoy: int = ir.NEWEST_ENVOY
) -> dict[str, dict[str, dict[str, Any]]]:
    """Return the rendered resources by type and name, as sent to Envoy 1.`envoy`."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    apart = "# virtual hosts apart\n" in case.text
    node_class = ir.NodeClass(group="chat", entry=ENTRY, envoy=envoy, virtual_hosts_apart=apart)
    for resource in compile_resources(node_class, case.traffic, scripts, collector=COLLECTOR):
        found.setdefault(resource.type_url.rsplit(".", 1)[-1], {})[resource.name] = render(resource)
    return found


def rendered(case: Case) -> dict[str, str]:
    """Return the text of each golden file by name."""
    return {f"{kind}.yaml": _dump(named) for kind, named in resources_of(case, NAMES).items()}


class _Dumper(yaml.SafeDumper):
    """Writes every value in full: a YAML anchor would hide a change at its alias."""

    def ignore_aliases(self, _data: Any) -> bool:
        return True


class _OneLine(dict[str, Any]):
    """An item of a long list; it is written in one line."""


_Dumper.add_representer(
    _OneLine, lambda dumper, item: dumper.represent_mapping("tag:yaml.org,2002:map", item, flow_style=True)
)


def _dump(value: Any) -> str:
    return yaml.dump(_compact(value), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


def _compact(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _compact(item) for key, item in value.items()}
    if isinstance(value, list) and len(value) > _LONG:
        return [_OneLine(item) if isinstance(item, dict) else item for item in value]
    return [_compact(item) for item in value] if isinstance(value, list) else value

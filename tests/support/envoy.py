"""A real Envoy: start it from a bootstrap, query its admin interface, validate a configuration with it."""

from __future__ import annotations

import json
import subprocess
import urllib.request
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from demo.processes import Process, ReadyCheck, envoy_binary, free_port, start
from xds_server.bootstrap import Bootstrap, HostPort, XdsTls, bootstrap, secrets

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Envoy", "inline", "start_envoy", "validate"]

_IDS = count(1)


@dataclass(slots=True)
class Envoy:
    """A running Envoy."""

    process: Process
    entry: str
    admin: str
    node_id: str

    def get(self, path: str) -> str:
        with urllib.request.urlopen(self.admin + path, timeout=5) as answer:
            return str(answer.read().decode())

    def stats(self, wanted: str) -> dict[str, int]:
        """Return counters and gauges whose name matches the regular expression `wanted`."""
        found = json.loads(self.get(f"/stats?format=json&filter={wanted}"))["stats"]
        return {item["name"]: item["value"] for item in found if "name" in item}

    def config(self) -> dict[str, Any]:
        """Return the config dump by message type."""
        parts = json.loads(self.get("/config_dump?include_eds"))["configs"]
        return {part["@type"].rsplit(".", 1)[-1]: part for part in parts}

    def stop(self) -> None:
        self.process.stop(grace=3)


def start_envoy(
    folder: Path,
    *,
    xds_port: int,
    node_id: str = "envoy-1",
    group: str = "chat",
    serve: HostPort | None = None,
    app: HostPort | None = None,
    delta: bool = True,
    tls: XdsTls | None = None,
    wait: bool = True,
    binary: Path | None = None,
    stats_interval: float = 0.5,
    all_stats: bool = False,
    change: Callable[[dict[str, Any]], object] = lambda _bootstrap: None,
) -> Envoy:
    """Start an Envoy; with `wait`, return when it is ready, that is, has its first snapshot.

    `change` changes the bootstrap in place.
    """
    entry = HostPort(host="127.0.0.1", port=free_port())
    admin = HostPort(host="127.0.0.1", port=free_port())
    facts = Bootstrap(
        node_id=node_id,
        group=group,
        xds=HostPort(host="127.0.0.1", port=xds_port),
        entry=entry,
        admin=admin,
        serve=serve,
        app=app,
        delta=delta,
        xds_tls=tls,
        stats_interval=stats_interval,
        all_stats=all_stats,
    )
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{node_id}.yaml"
    config = bootstrap(facts)
    change(config)
    file.write_text(yaml.safe_dump(config), encoding="utf-8")
    for path, secret in ({} if tls is None else secrets(tls)).items():
        Path(path).write_text(yaml.safe_dump(secret), encoding="utf-8")
    process = start(
        f"{node_id}-{next(_IDS)}",
        [
            binary or envoy_binary(),
            "-c",
            file,
            "--use-dynamic-base-id",
            "--concurrency",
            "1",
            "-l",
            "warning",
        ],
        folder=folder,
        ready=ReadyCheck(url=f"http://{admin}/ready", timeout=60) if wait else None,
    )
    return Envoy(process=process, entry=f"http://{entry}", admin=f"http://{admin}", node_id=node_id)


def validate(config: dict[str, Any], folder: Path, binary: Path | None = None) -> str:
    """Return the errors of `envoy --mode validate` for a whole configuration; empty if it is valid."""
    file = folder / "validate.json"
    file.write_text(json.dumps(config), encoding="utf-8")
    done = subprocess.run(
        [binary or envoy_binary(), "--mode", "validate", "-c", file, "--use-dynamic-base-id", "-l", "error"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr


def inline(resources: dict[str, dict[str, dict[str, Any]]]) -> dict[str, Any]:
    """Convert rendered resources to one static configuration with inline routes and endpoints."""
    clusters = []
    for cluster in resources["Cluster"].values():
        whole = dict(cluster)
        if whole.get("type") == "EDS":
            del whole["eds_cluster_config"]
            whole["type"] = "STATIC"
            whole["load_assignment"] = resources["ClusterLoadAssignment"][whole["name"]]
        clusters.append(whole)
    listeners = json.loads(json.dumps(list(resources["Listener"].values())))
    for listener in listeners:
        manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
        routes = manager.pop("rds")["route_config_name"]
        table = {**resources["RouteConfiguration"][routes], "validate_clusters": True}
        if table.pop("vhds", None) is not None:
            table["virtual_hosts"] = list(resources["VirtualHost"].values())
        manager["route_config"] = table
    extension = "type.googleapis.com/envoy.extensions.bootstrap.internal_listener.v3.InternalListener"
    return {
        "bootstrap_extensions": [
            {"name": "envoy.bootstrap.internal_listener", "typed_config": {"@type": extension}}
        ],
        "static_resources": {"clusters": clusters, "listeners": listeners},
    }

"""A real Prometheus for the programs of a test, with the alert rules of k8s/monitoring."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from demo.processes import ReadyCheck, free_port, start
from tests.support.debian import program

if TYPE_CHECKING:
    from tests.support.envoy import Envoy
    from tests.support.plane import Plane

__all__ = ["start_prometheus"]

ROOT = Path(__file__).resolve().parents[2]


def rules(**changed: str) -> dict[str, Any]:
    """Return the groups of the shipped PrometheusRule, with shorter ranges and intervals."""
    document = yaml.safe_load((ROOT / "k8s/monitoring/prometheus-rule.yaml").read_text(encoding="utf-8"))
    spec: dict[str, Any] = document["spec"]
    for rule in spec["groups"][0]["rules"]:
        rule["expr"] = rule["expr"].replace("[1m]", "[4s]")
        rule.update(changed if "alert" in rule else {})
    return {"groups": [{**spec["groups"][0], "interval": "1s"}]}


def start_prometheus(
    plane: Plane, envoy: Envoy, *, alertmanager: int | None = None, address: str = "", collector: bool = False
) -> str:
    """Start a Prometheus that scrapes the programs of a plane every second; return its base URL."""
    address, folder = address or f"127.0.0.1:{free_port()}", plane.folder
    (folder / "rules.yaml").write_text(yaml.safe_dump(rules(**{"for": "2s"})), encoding="utf-8")
    config: dict[str, Any] = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(folder / "rules.yaml")],
        "scrape_configs": [
            {
                "job_name": "envoy",
                "metrics_path": "/stats/prometheus",
                "static_configs": [{"targets": [envoy.admin.removeprefix("http://")]}],
            },
            {"job_name": "shiftplane", "static_configs": [{"targets": [f"127.0.0.1:{plane.http}"]}]},
        ],
    }
    if collector:
        here = {"targets": [f"127.0.0.1:{plane.collector_http}"]}
        config["scrape_configs"].append({"job_name": "mirror-collector", "static_configs": [here]})
    if alertmanager is not None:
        target = {"static_configs": [{"targets": [f"127.0.0.1:{alertmanager}"]}]}
        config["alerting"] = {"alertmanagers": [target]}
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    command: list[str | Path] = [
        program("prometheus", "prometheus"),
        f"--config.file={folder / 'prometheus.yaml'}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address={address}",
    ]
    ready = ReadyCheck(url=f"http://{address}/-/ready")
    plane.processes.append(start("prometheus", command, folder=folder, ready=ready))
    return f"http://{address}"

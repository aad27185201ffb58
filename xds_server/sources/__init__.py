"""Inputs other than xDS streams and the API: spec files, scripts, collectors, Prometheus (I/O)."""

from xds_server.sources.collector import CollectorSource
from xds_server.sources.evidence import EvidenceBlocks, EvidenceSource
from xds_server.sources.prometheus import MetricQuery, Prometheus
from xds_server.sources.scripts import load_scripts
from xds_server.sources.spec_files import SpecFolder

__all__ = [
    "CollectorSource",
    "EvidenceBlocks",
    "EvidenceSource",
    "MetricQuery",
    "Prometheus",
    "SpecFolder",
    "load_scripts",
]

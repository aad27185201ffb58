"""Inputs other than xDS streams and the API: spec files, scripts, collectors, Prometheus (I/O)."""

from xds_server.sources.collector import CollectorSource
from xds_server.sources.evidence import EvidenceBlocks, EvidenceSource
from xds_server.sources.prometheus import MetricQuery, Prometheus, QueryResults
from xds_server.sources.scripts import load_scripts
from xds_server.sources.shadow_evidence import CollectorEvidence
from xds_server.sources.spec_files import SpecFolder

__all__ = [
    "CollectorEvidence",
    "CollectorSource",
    "EvidenceBlocks",
    "EvidenceSource",
    "MetricQuery",
    "Prometheus",
    "QueryResults",
    "SpecFolder",
    "load_scripts",
]

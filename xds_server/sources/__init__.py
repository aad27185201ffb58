"""What comes in besides discovery streams and the API: spec files, scripts, the collector (I/O)."""

from xds_server.sources.collector import CollectorSource
from xds_server.sources.evidence import EvidenceBlocks, EvidenceSource
from xds_server.sources.prometheus import Asked, Prometheus, QueryResults
from xds_server.sources.scripts import load_scripts
from xds_server.sources.shadow_evidence import CollectorEvidence
from xds_server.sources.spec_files import SpecFolder

__all__ = [
    "Asked",
    "CollectorEvidence",
    "CollectorSource",
    "EvidenceBlocks",
    "EvidenceSource",
    "Prometheus",
    "QueryResults",
    "SpecFolder",
    "load_scripts",
]

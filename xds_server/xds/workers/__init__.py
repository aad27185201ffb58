"""Worker processes that serve xDS streams on one port, and the control plane's side of them (I/O)."""

from xds_server.xds.workers.pool import WorkerPool
from xds_server.xds.workers.supervisor import WorkerTimeouts

__all__ = ["WorkerPool", "WorkerTimeouts"]

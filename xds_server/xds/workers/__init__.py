"""Several processes that serve discovery streams on one port, supplied by the control plane (I/O)."""

from xds_server.xds.workers.pool import WorkerPool
from xds_server.xds.workers.supervisor import WorkerTimeouts

__all__ = ["WorkerPool", "WorkerTimeouts"]

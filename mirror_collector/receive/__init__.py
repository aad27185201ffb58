"""Endpoints that receive data, and the queue between them and the pipeline.

Proxies send legs over Envoy's gRPC access log service; other senders use ``POST /v1/exchanges``. Both put
legs into one bounded queue and never wait for the pipeline: a leg that does not fit is dropped and counted.
``POST /v1/outcomes`` writes conversions and feedback directly to the store.
"""

from __future__ import annotations

from mirror_collector.receive.access_log import access_log_handler
from mirror_collector.receive.exchanges import exchange_routes
from mirror_collector.receive.outcomes import outcome_routes
from mirror_collector.receive.queue import LegQueue, LegQueueLimits

__all__ = ["LegQueue", "LegQueueLimits", "access_log_handler", "exchange_routes", "outcome_routes"]

"""The doors: the proxies' access log over gRPC and ``POST /v1/exchanges``, both into one bounded queue.

A door never waits for what lies behind the queue. What does not fit is dropped, the newest first, and
counted.
"""

from __future__ import annotations

from mirror_collector.receive.access_log import access_log_handler
from mirror_collector.receive.exchanges import exchange_routes
from mirror_collector.receive.outcomes import outcome_routes
from mirror_collector.receive.queue import Intake, IntakeLimits

__all__ = ["Intake", "IntakeLimits", "access_log_handler", "exchange_routes", "outcome_routes"]

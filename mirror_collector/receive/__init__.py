"""The doors: the proxies' access log over gRPC and ``POST /v1/exchanges``, both into one bounded queue.

A door never waits for what lies behind the queue. What does not fit is dropped, the newest first, and
counted.
"""

from __future__ import annotations

from mirror_collector.receive.accesslog import AccessLogServer
from mirror_collector.receive.exchanges import exchange_routes
from mirror_collector.receive.intake import Intake, IntakeLimits
from mirror_collector.receive.outcomes import outcome_routes

__all__ = ["AccessLogServer", "Intake", "IntakeLimits", "exchange_routes", "outcome_routes"]

"""Users of the demo: steady traffic that judges every answer, and a fast count of who gets which variant."""

from __future__ import annotations

from demo.traffic.exchange import Exchange, Failure
from demo.traffic.load import Traffic, TrafficConfig, TrafficSnapshot
from demo.traffic.split import SplitSample, split_sample

__all__ = [
    "Exchange",
    "Failure",
    "SplitSample",
    "Traffic",
    "TrafficConfig",
    "TrafficSnapshot",
    "split_sample",
]

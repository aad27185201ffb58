"""Simulated users: steady traffic that checks every answer, and a fast measurement of the split."""

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

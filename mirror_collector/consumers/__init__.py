"""Consumers of stored pairs: external sinks, and a model that judges a sample of the pairs."""

from __future__ import annotations

from mirror_collector.consumers.forwarder import PairForwarder

__all__ = ["PairForwarder"]

"""Sinks: external systems that receive every stored pair (OpenTelemetry, Langfuse).

A slow or failing sink never delays the pipeline: each sink has a bounded queue and drops what does not fit.
"""

from __future__ import annotations

from mirror_collector.consumers.sinks.batch_sender import DeliveryPolicy
from mirror_collector.consumers.sinks.langfuse import LangfuseSink
from mirror_collector.consumers.sinks.otlp import OtlpSink
from mirror_collector.consumers.sinks.sink import Sink

__all__ = ["DeliveryPolicy", "LangfuseSink", "OtlpSink", "Sink"]

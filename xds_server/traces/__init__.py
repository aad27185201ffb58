"""Trace the control plane's changes as OpenTelemetry spans, and export them over OTLP/HTTP (I/O)."""

from xds_server.traces.exporter import SpanExporter
from xds_server.traces.model import Span, export_request
from xds_server.traces.tracer import Tracer

__all__ = ["Span", "SpanExporter", "Tracer", "export_request"]

"""What the control plane does, as spans of OpenTelemetry (I/O)."""

from xds_server.traces.model import Span, export_request
from xds_server.traces.sender import Sender
from xds_server.traces.tracer import Tracer

__all__ = ["Sender", "Span", "Tracer", "export_request"]

"""A simulated vLLM server: vLLM's HTTP API, generated answers, and faults that can be injected."""

from __future__ import annotations

from demo.simulated.answers import Flavour
from demo.simulated.config import VERSION, SimulatedConfig
from demo.simulated.faults import NO_FAULT, Fault, FaultMode
from demo.simulated.server import SimulatedVllm

__all__ = ["NO_FAULT", "VERSION", "Fault", "FaultMode", "Flavour", "SimulatedConfig", "SimulatedVllm"]

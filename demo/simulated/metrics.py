"""The vLLM metrics that dashboards and autoscalers use most, on a registry of their own."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

__all__ = ["ServerMetrics"]

_FIRST_TOKEN_BUCKETS: Final = (
    0.001,
    0.005,
    0.01,
    0.02,
    0.04,
    0.06,
    0.08,
    0.1,
    0.25,
    0.5,
    0.75,
    1,
    2.5,
    5,
    10,
    20,
)
_INTER_TOKEN_BUCKETS: Final = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.075,
    0.1,
    0.15,
    0.2,
    0.3,
    0.4,
    0.5,
    1,
)
_TOTAL_BUCKETS: Final = (0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240)


class ServerMetrics:
    """The metrics of one server, with vLLM's semantics.

    A request whose client disconnects before the end of the answer is not counted in
    ``vllm:request_success``. In ``http_requests`` it is counted under the status that was sent, and as 2xx if
    the client disconnected before a status was sent.
    """

    def __init__(self, model: str) -> None:
        self._registry = CollectorRegistry()
        names = ("engine", "model_name")
        self._success = Counter(
            "vllm:request_success",
            "Count of successfully processed requests.",
            (*names, "finished_reason"),
            registry=self._registry,
        )
        self._by_reason = {
            reason: self._success.labels("0", model, reason)
            for reason in ("stop", "length", "abort", "error")
        }
        self.running = self._gauge("num_requests_running", "Requests in execution.").labels("0", model)
        self.waiting = self._gauge("num_requests_waiting", "Requests waiting to be processed.").labels(
            "0", model
        )
        self._prompt = self._counter("prompt_tokens", "Number of prefill tokens processed.").labels(
            "0", model
        )
        self._generated = self._counter("generation_tokens", "Number of generated tokens.").labels("0", model)
        self._first = self._histogram("time_to_first_token_seconds", _FIRST_TOKEN_BUCKETS).labels("0", model)
        self._inter = self._histogram("inter_token_latency_seconds", _INTER_TOKEN_BUCKETS).labels("0", model)
        self._total = self._histogram("e2e_request_latency_seconds", _TOTAL_BUCKETS).labels("0", model)
        self._http = Counter(
            "http_requests",
            "Requests by status class.",
            ("handler", "method", "status"),
            registry=self._registry,
        )

    def finished(self, reason: str, *, prompt_tokens: int, tokens: int, first: float, total: float) -> None:
        """Count an answer that was generated to its end; times in seconds."""
        self._by_reason[reason].inc()
        self._prompt.inc(prompt_tokens)
        self._generated.inc(tokens)
        self._first.observe(first)
        self._total.observe(total)
        for _ in range(tokens - 1):
            self._inter.observe((total - first) / (tokens - 1))

    def completed(self, handler: str, method: str, status: int) -> None:
        """Count a finished HTTP request by handler, method and status class, such as 2xx."""
        self._http.labels(handler, method, f"{status // 100}xx").inc()

    def exposition(self) -> bytes:
        """Return all metrics in the Prometheus text format."""
        return generate_latest(self._registry)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f"vllm:{name}", text, ("engine", "model_name"), registry=self._registry)

    def _counter(self, name: str, text: str) -> Counter:
        return Counter(f"vllm:{name}", text, ("engine", "model_name"), registry=self._registry)

    def _histogram(self, name: str, buckets: tuple[float, ...]) -> Histogram:
        text = f"Histogram of {name.removesuffix('_seconds').replace('_', ' ')} in seconds."
        labels = ("engine", "model_name")
        return Histogram(f"vllm:{name}", text, labels, buckets=buckets, registry=self._registry)

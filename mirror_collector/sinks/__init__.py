"""Where pairs go besides the store: OpenTelemetry, Langfuse. Nothing waits for a sink or fails with it."""

from __future__ import annotations

import asyncio
import base64
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from mirror_collector.sinks.sender import Patience, Sender, Target
from mirror_collector.sinks.spans import export_request, scores_of, spans_of

if TYPE_CHECKING:
    from collections import Counter

    from mirror_collector.compare import Comparison, Replies
    from mirror_collector.exchange import Pair
    from mirror_collector.secret import Secret

__all__ = ["LangfuseSink", "OtlpSink", "Patience", "Sink"]


class Sink(Protocol):
    """Takes pairs and sends them on."""

    name: str
    bodies: bool

    def take(self, pair: Pair, replies: Replies, found: Comparison) -> None:
        """Take a pair; `replies` are redacted."""

    async def run(self) -> None:
        """Send until cancelled, or closed and empty."""

    def close(self) -> None:
        """Take nothing more."""

    @property
    def sent(self) -> int:
        """Items delivered."""

    @property
    def dropped(self) -> Counter[str]:
        """Items lost, by reason."""


class OtlpSink:
    """Spans over OTLP/HTTP, in JSON."""

    def __init__(
        self, url: str, headers: dict[str, str], *, bodies: bool, patience: Patience | None = None
    ) -> None:
        """Without a path in `url` it is the standard one."""
        self.name = "otlp"
        self.bodies = bodies
        target = url if urlsplit(url).path.strip("/") else f"{url.rstrip('/')}/v1/traces"
        self._spans = Sender(Target(url=target, headers=headers, body=_request), patience)

    def take(self, pair: Pair, replies: Replies, found: Comparison) -> None:
        """Take a pair."""
        self._spans.offer(spans_of(pair, replies, found, bodies=self.bodies))

    async def run(self) -> None:
        """Send until cancelled, or closed and empty."""
        await self._spans.run()

    def close(self) -> None:
        """Take nothing more."""
        self._spans.close()

    @property
    def sent(self) -> int:
        """Pairs delivered."""
        return self._spans.sent

    @property
    def dropped(self) -> Counter[str]:
        """Pairs lost, by reason."""
        return self._spans.dropped


class LangfuseSink:
    """Traces over Langfuse's own OTLP door, and findings as scores on them."""

    def __init__(
        self, url: str, public: str, secret: Secret, *, bodies: bool, patience: Patience | None = None
    ) -> None:
        """`url` is that of the Langfuse server."""
        self.name = "langfuse"
        self.bodies = bodies
        token = base64.b64encode(f"{public}:{secret.value}".encode()).decode()
        headers = {"authorization": f"Basic {token}"}
        base = url.rstrip("/")
        self._spans = Sender(
            Target(url=f"{base}/api/public/otel/v1/traces", headers=headers, body=_request), patience
        )
        one = patience or Patience()
        single = Patience(batch=1, linger=0.0, tries=one.tries, first=one.first, queue=one.queue)
        self._scores = Sender(
            Target(url=f"{base}/api/public/scores", headers=headers, body=lambda items: items[0]), single
        )

    def take(self, pair: Pair, replies: Replies, found: Comparison) -> None:
        """Take a pair."""
        self._spans.offer(spans_of(pair, replies, found, bodies=self.bodies))
        for score in scores_of(pair, found):
            self._scores.offer(score)

    async def run(self) -> None:
        """Send until cancelled, or closed and empty."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._spans.run())
            tasks.create_task(self._scores.run())

    def close(self) -> None:
        """Take nothing more."""
        self._spans.close()
        self._scores.close()

    @property
    def sent(self) -> int:
        """Traces and scores delivered."""
        return self._spans.sent + self._scores.sent

    @property
    def dropped(self) -> Counter[str]:
        """Traces and scores lost, by reason."""
        return self._spans.dropped + self._scores.dropped


def _request(items: list[list[dict[str, Any]]]) -> dict[str, Any]:
    return export_request([span for spans in items for span in spans])

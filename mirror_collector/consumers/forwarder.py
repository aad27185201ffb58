"""Forwarding of stored pairs to the sinks and to the judge, off the critical path of the pipeline."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

from mirror_collector.compare import Replies
from mirror_collector.consumers.judge import request_text
from mirror_collector.store import MessageStorage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mirror_collector.compare import ComparedPair
    from mirror_collector.consumers.judge import Judge
    from mirror_collector.consumers.sinks import Sink
    from mirror_collector.store import PrivacyPolicy

__all__ = ["PairForwarder"]

_SHUTDOWN_GRACE = 2.0
"""Seconds the sinks get to deliver queued pairs after the collector stopped."""


class PairForwarder:
    """Passes each stored pair to the sinks and, where sampled, to the judge."""

    def __init__(self, sinks: Sequence[Sink], judge: Judge | None, privacy: PrivacyPolicy) -> None:
        """Create a forwarder; `privacy` defines how texts are redacted and whether they may be sent."""
        self._sinks = tuple(sinks)
        self._judge = judge
        self._privacy = privacy

    def forward(self, compared: ComparedPair) -> None:
        """Queue a pair for the sinks and the judge without waiting; texts are redacted as in the store."""
        if not self._sinks and self._judge is None:
            return
        policy = self._privacy.for_route(compared.pair.primary.route)
        replies = compared.replies
        if policy.redaction:
            noise = None if replies.noise is None else policy.redaction.reply(replies.noise)
            replies = Replies(
                primary=policy.redaction.reply(replies.primary),
                shadow=policy.redaction.reply(replies.shadow),
                noise=noise,
            )
        for sink in self._sinks:
            if sink.bodies and policy.storage is not MessageStorage.BODIES:
                continue  # Messages that may not be stored may not be sent either.
            sink.enqueue(compared.pair, replies, compared.comparison)
        if self._judge is not None and policy.storage is MessageStorage.BODIES:
            self._submit(compared, replies, self._judge)

    def _submit(self, compared: ComparedPair, replies: Replies, judge: Judge) -> None:
        """Queue a pair for the judge if it is comparable and sampled, with two different, non-empty texts."""
        primary, comparison = compared.pair.primary, compared.comparison
        texts = replies.primary.text.strip(), replies.shadow.text.strip()
        comparable = (
            not comparison.client_left and not comparison.limited and comparison.agreement.rouge_l is not None
        )
        if (
            not comparable
            or not all(texts)
            or texts[0] == texts[1]
            or not judge.is_sampled(primary.request_id)
        ):
            return
        request = self._privacy.for_route(primary.route).redaction.body(primary.request)
        judge.submit(compared.pair_id, request_text(request or b""), *texts)

    async def run(self) -> None:
        """Run sinks and judge until canceled; then close the sinks and let them deliver queued pairs."""
        sending = [asyncio.ensure_future(sink.run()) for sink in self._sinks]
        jobs = [*sending, *([asyncio.ensure_future(self._judge.run())] if self._judge is not None else [])]
        try:
            if jobs:
                # Not `gather`: canceling this task would cancel the sinks before they deliver queued pairs.
                done, _ = await asyncio.wait(jobs, return_when=asyncio.FIRST_EXCEPTION)
                for job in done:
                    job.result()
            await asyncio.Event().wait()
        finally:
            for sink in self._sinks:
                sink.close()
            if sending:
                await asyncio.wait(sending, timeout=_SHUTDOWN_GRACE)
            for job in jobs:
                job.cancel()

    def counts(self) -> dict[str, Counter[str]]:
        """Return the number of items by result, for each sink (``<type>_<number>``) and the ``judge``."""
        counts = {
            f"{sink.name}_{number}": Counter({"sent": sink.sent, **sink.dropped})
            for number, sink in enumerate(self._sinks, start=1)
        }
        if self._judge is not None:
            counts["judge"] = Counter(self._judge.counts)
        return counts

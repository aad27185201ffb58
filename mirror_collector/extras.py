"""What the settings ask for besides storing: sinks and a judge, beside the pipeline; they hold up nobody."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from mirror_collector.compare import Replies
from mirror_collector.judge import Budget, Judge, JudgeConfig, JudgePrompt, question
from mirror_collector.judge.prompt import DEFAULT
from mirror_collector.secret import Secret
from mirror_collector.settings import LangfuseSettings, OtlpSettings, SettingsError
from mirror_collector.sinks import LangfuseSink, OtlpSink
from mirror_collector.store import Keep, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

    from structlog.typing import FilteringBoundLogger

    from mirror_collector.judge import Judgement
    from mirror_collector.settings import JudgeSettings, Settings
    from mirror_collector.sinks import Sink
    from mirror_collector.store import Compared, Privacy, Store

__all__ = ["Extras"]

_GRACE = 2.0
"""Seconds in which sinks may send what they have once the collector stops."""


class Extras:
    """The sinks and the judge of one collector; `take` is given every new pair."""

    def __init__(
        self, settings: Settings, store: Store, *, clock: Callable[[], float], log: FilteringBoundLogger
    ) -> None:
        """Raises SettingsError where a file the settings name cannot be read."""
        self._privacy: Privacy = settings.kept()
        self._store = store
        self._clock = clock
        self._log = log
        self.sinks: tuple[Sink, ...] = tuple(_sink(one) for one in settings.sinks)
        self.judge = None if settings.judge is None else self._judge(settings.judge)

    def _judge(self, asked: JudgeSettings) -> Judge:
        prompt = DEFAULT if asked.prompt_file is None else JudgePrompt(text=_read(asked.prompt_file))
        config = JudgeConfig(
            url=asked.url,
            model=asked.model,
            key=None if asked.api_key_file is None else Secret(_read(asked.api_key_file).strip()),
            share=asked.sample / 100,
            prompt=prompt,
        )
        budget = Budget(
            per_minute=asked.per_minute,
            cost_per_day=asked.cost_per_day,
            input_per_million=asked.price.input_per_million,
            output_per_million=asked.price.output_per_million,
        )
        return Judge(config, budget, self._judged, clock=self._clock)

    async def _judged(self, pair_id: int, prompt: str, model: str, found: Judgement) -> None:
        try:
            await self._store.write_judgement(pair_id, prompt, model, found.value, self._clock())
        except StoreError as error:
            self._log.warning("judgement_lost", pair=pair_id, error=str(error))

    def take(self, one: Compared) -> None:
        """Hand a pair on; what leaves is redacted like what is stored."""
        if not self.sinks and self.judge is None:
            return
        policy = self._privacy.of(one.pair.primary.route)
        replies = one.replies
        if policy.redaction:
            noise = None if replies.noise is None else policy.redaction.reply(replies.noise)
            replies = Replies(
                primary=policy.redaction.reply(replies.primary),
                shadow=policy.redaction.reply(replies.shadow),
                noise=noise,
            )
        for sink in self.sinks:
            if sink.bodies and policy.keep is not Keep.BODIES:
                continue  # What may not be kept here may not be kept there.
            sink.take(one.pair, replies, one.found)
        if self.judge is not None and policy.keep is Keep.BODIES:
            self._offer(one, replies, self.judge)

    def _offer(self, one: Compared, replies: Replies, judge: Judge) -> None:
        said = replies.primary.text.strip(), replies.shadow.text.strip()
        counts = not one.found.client_left and not one.found.limited and one.found.like.rouge_l is not None
        if not counts or not all(said) or said[0] == said[1] or not judge.wanted(one.pair.primary.request_id):
            return
        asked = self._privacy.of(one.pair.primary.route).redaction.body(one.pair.primary.request)
        judge.offer(one.pair_id, question(asked or b""), *said)

    async def run(self) -> None:
        """Run until cancelled; afterwards sinks have a moment to send what they have."""
        sending = [asyncio.ensure_future(sink.run()) for sink in self.sinks]
        jobs = [*sending, *([asyncio.ensure_future(self.judge.run())] if self.judge is not None else [])]
        try:
            if jobs:
                # Not a gather: that would end them all with this, before they could send what they have.
                done, _ = await asyncio.wait(jobs, return_when=asyncio.FIRST_EXCEPTION)
                for job in done:
                    job.result()
            await asyncio.Event().wait()
        finally:
            for sink in self.sinks:
                sink.close()
            if sending:
                await asyncio.wait(sending, timeout=_GRACE)
            for job in jobs:
                job.cancel()

    def counts(self) -> dict[str, Counter[str]]:
        """Return what became of what was handed on, by sink or judge."""
        found = {
            f"{sink.name}_{number}": Counter({"sent": sink.sent, **sink.dropped})
            for number, sink in enumerate(self.sinks, start=1)
        }
        if self.judge is not None:
            found["judge"] = Counter(self.judge.counts)
        return found


def _sink(asked: OtlpSettings | LangfuseSettings) -> Sink:
    if isinstance(asked, OtlpSettings):
        return OtlpSink(asked.url, dict(asked.headers), bodies=asked.bodies)
    secret = Secret(_read(asked.secret_key_file).strip())
    return LangfuseSink(asked.url, asked.public_key, secret, bodies=asked.bodies)


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"cannot read {path}: {error}") from error

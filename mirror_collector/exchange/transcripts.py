"""Reading of transcriptions and translations of audio: JSON, plain text, subtitles or a stream."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Final

from mirror_collector.exchange.reply import Reply, ReplyKind, replace_surrogates
from mirror_collector.exchange.usage import Usage

__all__ = ["TRANSCRIPT_EVENTS", "TranscriptBuilder", "transcript_of_json", "transcript_of_text"]

TRANSCRIPT_EVENTS: Final = "transcript.text."
"""Prefix of the types of the events of a stream."""

_SUBTITLE_FRAME: Final = re.compile(
    r"^(?:\ufeff?WEBVTT[^\n]*|\d+|NOTE\b[^\n]*|[^\n]*\d\d[,.]\d\d\d[ \t]+-->[^\n]*)$", re.MULTILINE
)
"""Header, numbers and times of subtitles (SubRip, WebVTT), which are no words of the speaker."""


@dataclass(slots=True)
class TranscriptBuilder:
    """The pieces of a streamed transcript."""

    pieces: list[str] = field(default_factory=list)
    segments: list[str] = field(default_factory=list)
    full: str | None = None
    """The whole transcript, as sent in the last event; None before that event."""

    usage: Usage = field(default_factory=Usage)
    chunks: int = 0
    seen: bool = False

    def add_event(self, kind: str, value: dict[str, Any]) -> None:
        """Add one event; `kind` begins with `TRANSCRIPT_EVENTS`."""
        self.seen = True
        match kind, value:
            case "transcript.text.delta", {"delta": str() as delta} if delta:
                self.pieces.append(delta)
                self.chunks += 1
            case "transcript.text.segment", {"text": str() as text}:
                self.segments.append(text)
            case "transcript.text.done", {"text": str() as text}:
                self.full = text
                self.usage.add(value.get("usage"))
            case _:
                pass

    def build(self, *, error: bool) -> Reply:
        """Return the reply."""
        text = "".join(self.pieces) or " ".join(self.segments)
        return Reply(
            kind=ReplyKind.TRANSCRIPT,
            streamed=True,
            text=replace_surrogates(text if self.full is None else self.full),
            prompt_tokens=self.usage.prompt_tokens,
            completion_tokens=self.usage.completion_tokens,
            # Only deltas are counted, so the number is unknown if the text arrived without deltas.
            content_chunks=self.chunks if self.chunks or not (self.full or self.segments) else None,
            error=error,
            whole=self.full is not None,
        )


def transcript_of_json(value: Any) -> Reply | None:
    """Return the transcript in a JSON object with ``text``, or in a JSON string; None if there is none."""
    match value:
        case {"text": str() as text, **rest}:
            usage = Usage()
            usage.add(rest.get("usage"))
            return Reply(
                kind=ReplyKind.TRANSCRIPT,
                text=replace_surrogates(text),
                prompt_tokens=usage.prompt_tokens,
                completion_tokens=usage.completion_tokens,
            )
        case str() as text:
            return transcript_of_text(text)
        case _:
            return None


def transcript_of_text(text: str) -> Reply:
    """Return the transcript in plain text or subtitles."""
    if " --> " in text:
        text = _SUBTITLE_FRAME.sub("", text.replace("\r\n", "\n"))
    return Reply(kind=ReplyKind.TRANSCRIPT, text=replace_surrogates(text))

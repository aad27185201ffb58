"""The audio APIs: transcription of an uploaded file, and speech as audio bytes."""

from __future__ import annotations

import hashlib
import io
import re
import wave
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from demo.simulated import wire
from demo.simulated.answers import Flavour, Question, answer, gibberish
from demo.simulated.modes import FaultMode
from demo.simulated.wire import WireError

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping

__all__ = [
    "SPEECH_TYPES",
    "SpeechRequest",
    "TranscriptionRequest",
    "form_fields",
    "parse_speech",
    "parse_transcription",
    "speech",
    "transcription",
]

_BYTES_PER_SECOND: Final = 32_000
_SAMPLE_RATE: Final = 16_000
_SECONDS_PER_CHARACTER: Final = 0.06
_FRAME: Final = b"\xff\xfb\x90\x00".ljust(417, b"\x00")
"""One frame of silence: MPEG-1 layer III, 128 kbit/s, 44.1 kHz."""
_FRAME_SECONDS: Final = 1152 / 44_100
_BOUNDARY: Final = re.compile(r'boundary="?([^";]+)"?', re.IGNORECASE)
_NAME: Final = re.compile(rb'[;\s]name="([^"]*)"', re.IGNORECASE)
_LANGUAGES: Final = "en"

SPEECH_TYPES: Final[Mapping[str, str]] = {"mp3": "audio/mpeg", "wav": "audio/wav", "pcm": "audio/pcm"}
"""The content type of each available format of speech."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TranscriptionRequest:
    """A validated upload; ``format`` is json, verbose_json or text; ``seconds`` is the audio's length."""

    audio: bytes
    format: str
    language: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechRequest:
    """A validated request; ``format`` is a key of ``SPEECH_TYPES``."""

    text: str
    format: str


def parse_transcription(content_type: str, body: bytes, *, model: str) -> TranscriptionRequest:
    """Return the validated upload of a ``multipart/form-data`` body.

    Raises:
        WireError: 400 for an invalid body, 404 for the name of another model.
    """
    fields = form_fields(content_type, body)
    audio = fields.get("file")
    if not audio:
        raise WireError.bad_request("file is required: an audio file that is not empty.", param="file")
    texts = {name: value.decode("utf-8", "replace") for name, value in fields.items() if name != "file"}
    shape = texts.get("response_format", "json")
    if shape not in {"json", "verbose_json", "text"}:
        raise WireError.bad_request(
            "response_format must be json, verbose_json or text.", param="response_format"
        )
    if texts.get("stream", "false").lower() == "true":
        raise WireError.bad_request(
            "The simulated server does not stream transcriptions; stream must be false.", param="stream"
        )
    wire.checked_model(texts, model)
    return TranscriptionRequest(
        audio=audio,
        format=shape,
        language=texts.get("language", _LANGUAGES),
        seconds=round(len(audio) / _BYTES_PER_SECOND, 2),
    )


def transcription(
    request: TranscriptionRequest, flavour: Flavour, rng: random.Random, mode: FaultMode
) -> dict[str, Any] | str:
    """Return the body of an answer: JSON, or a text for the format ``text``; equal files have equal texts."""
    if mode is FaultMode.EMPTY_TEXT:
        text = ""
    elif mode is FaultMode.GIBBERISH:
        text = gibberish(rng).text
    else:
        digest = hashlib.blake2b(request.audio, digest_size=16).hexdigest()
        text = answer(Question(conversation=digest, last="", temperature=0.0), flavour, rng).text
    if request.format == "text":
        return f"{text}\n"
    if request.format == "json":
        return {"text": text, "usage": {"type": "duration", "seconds": max(1, round(request.seconds))}}
    return {
        "task": "transcribe",
        "language": request.language,
        "duration": request.seconds,
        "text": text,
        "segments": _segments(text, request.seconds),
        "usage": {"type": "duration", "seconds": max(1, round(request.seconds))},
    }


def _segments(text: str, seconds: float) -> list[dict[str, Any]]:
    """Return one segment per sentence, with a duration in proportion to the length of the sentence."""
    sentences = [part for part in re.split(r"(?<=[.!?]) ", text) if part]
    scale = seconds / max(1, sum(map(len, sentences)))
    made, begin = [], 0.0
    for number, sentence in enumerate(sentences):
        end = begin + len(sentence) * scale
        made.append(
            {
                "id": number,
                "seek": 0,
                "start": round(begin, 3),
                "end": round(end, 3),
                "text": sentence,
                "tokens": list(range(wire.token_count(sentence))),
                "temperature": 0.0,
                "avg_logprob": -0.25,
                "compression_ratio": 1.2,
                "no_speech_prob": 0.01,
            }
        )
        begin = end
    return made


def parse_speech(content_type: str, body: bytes, *, model: str, max_model_len: int) -> SpeechRequest:
    """Return the validated request of a body.

    Raises:
        WireError: 400 for an invalid or too long body, 404 for the name of another model.
    """
    document = wire.json_object(content_type, body)
    text = wire.field(document, "input", str, default="")
    if not text:
        raise WireError.bad_request("input is required: a text that is not empty.", param="input")
    wire.field(document, "voice", str, default="")
    shape = wire.field(document, "response_format", str, default="mp3")
    if shape not in SPEECH_TYPES:
        allowed = ", ".join(SPEECH_TYPES)
        raise WireError.bad_request(f"response_format must be one of: {allowed}.", param="response_format")
    wire.checked_model(document, model)
    if (tokens := wire.token_count(text)) > max_model_len:
        raise WireError.too_long(f"The input has {tokens} tokens; allowed: {max_model_len}.")
    return SpeechRequest(text=text, format=shape)


def speech(request: SpeechRequest, flavour: Flavour) -> bytes:
    """Return silence with a duration in proportion to the text; flavour B takes 5 % longer."""
    seconds = len(request.text) * _SECONDS_PER_CHARACTER * (1.05 if flavour is Flavour.B else 1.0)
    if request.format == "mp3":
        return _FRAME * max(1, round(seconds / _FRAME_SECONDS))
    samples = bytes(2 * round(seconds * _SAMPLE_RATE))
    if request.format == "pcm":
        return samples
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(_SAMPLE_RATE)
        file.writeframes(samples)
    return out.getvalue()


def form_fields(content_type: str, body: bytes) -> dict[str, bytes]:
    """Return the values of a form (RFC 7578) by field name; a later value replaces an earlier one.

    Raises:
        WireError: 400 if the body is not a complete form.
    """
    found = _BOUNDARY.search(content_type)
    if content_type.partition(";")[0].strip().lower() != "multipart/form-data" or found is None:
        raise WireError.bad_request("The content type must be multipart/form-data with a boundary.")
    mark = b"\r\n--" + found[1].encode("utf-8", "replace")
    parts = (b"\r\n" + body).split(mark)
    if len(parts) < 2 or not parts[-1].startswith(b"--"):
        raise WireError.bad_request("The form is not complete.")
    fields: dict[str, bytes] = {}
    for part in parts[1:-1]:
        head, separator, value = part.partition(b"\r\n\r\n")
        name = _NAME.search(head)
        if not separator or name is None:
            raise WireError.bad_request("Every part of the form must have headers and a name.")
        fields[name[1].decode("utf-8", "replace")] = value
    return fields

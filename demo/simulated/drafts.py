"""Composes the content of an answer, before it gets the form of an API. No I/O.

Faults of the content are applied here.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from demo.simulated.answers import Answer, answer, gibberish, topics, varied
from demo.simulated.modes import FaultMode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from demo.simulated.config import SimulatedConfig
    from demo.simulated.requests import GenerationRequest, Tool

__all__ = ["Choice", "Draft", "Finish", "ToolCall", "compose"]

_PIECE: Final = re.compile(r".{1,8}", re.DOTALL)
_DEEPEST: Final = 6
_REPETITIONS: Final = 12
_EXCLAMATIONS: Final = 40


class Finish(Enum):
    """The finish reason of an answer, in the words of the chat API."""

    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """One call of a function; ``arguments`` is JSON text, ``id`` lacks the prefix that each API adds."""

    id: str
    name: str
    arguments: str

    @property
    def pieces(self) -> tuple[str, ...]:
        """The arguments as tokens; their concatenation is ``arguments``."""
        return tuple(_PIECE.findall(self.arguments))


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One answer: the tokens of its text, or tool calls."""

    tokens: tuple[str, ...]
    finish: Finish
    calls: tuple[ToolCall, ...] = ()

    @property
    def text(self) -> str:
        """The whole text."""
        return "".join(self.tokens)

    @property
    def length(self) -> int:
        """The number of tokens, those of the calls included."""
        return len(self.tokens) + sum(1 + len(call.pieces) for call in self.calls)


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """All choices of one answer, and what its body and events share; ``created`` is in Unix seconds."""

    request_id: str
    created: int
    model: str
    prompt_tokens: int
    choices: tuple[Choice, ...]

    @property
    def completion_tokens(self) -> int:
        """The tokens of all choices."""
        return sum(choice.length for choice in self.choices)

    @property
    def longest(self) -> int:
        """The tokens of the longest choice, which decides how long the answer takes."""
        return max(choice.length for choice in self.choices)


def compose(
    parsed: GenerationRequest, config: SimulatedConfig, rng: random.Random, mode: FaultMode
) -> tuple[Choice, ...]:
    """Return the choices of an answer, each truncated to the token limit."""
    rng = rng if parsed.seed is None else random.Random(parsed.seed)
    return tuple(_choice(parsed, config, rng, mode, index) for index in range(parsed.n))


def _choice(
    parsed: GenerationRequest, config: SimulatedConfig, rng: random.Random, mode: FaultMode, index: int
) -> Choice:
    if mode in {FaultMode.EMPTY_TEXT, FaultMode.END_MARK_ONLY}:
        return Choice(tokens=(), finish=Finish.STOP)
    digest = _digest(f"{parsed.question.conversation}\x1d{index}")
    broken = mode in {FaultMode.GIBBERISH, FaultMode.EXCLAMATIONS, FaultMode.REPETITION}
    if parsed.tools and not broken:
        calls = tuple(_broken_call(call, mode) for call in _calls(parsed, digest))
        return _limited_calls(calls, parsed.max_tokens)
    tokens = _text(parsed, config, rng, mode, index).tokens
    if len(tokens) <= parsed.max_tokens:
        return Choice(tokens=tokens, finish=Finish.STOP)
    return Choice(tokens=tokens[: parsed.max_tokens], finish=Finish.LENGTH)


def _text(
    parsed: GenerationRequest, config: SimulatedConfig, rng: random.Random, mode: FaultMode, index: int
) -> Answer:
    if mode is FaultMode.GIBBERISH:
        return gibberish(rng)
    if mode is FaultMode.EXCLAMATIONS:
        return Answer(tokens=("!",) * _EXCLAMATIONS)
    question = parsed.question
    if index:
        # The index makes the choices differ from each other, even at temperature 0.
        question = replace(question, conversation=f"{question.conversation}\x1d{index}")
    made = answer(question, config.flavour, rng)
    if mode is FaultMode.REPETITION:
        return Answer(tokens=made.tokens[:4] * _REPETITIONS)
    if config.resample or config.alter:
        made = varied(made, rng, resample=config.resample, alter=config.alter)
    return made


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=32).digest()


# Tool calls


def _calls(parsed: GenerationRequest, digest: bytes) -> tuple[ToolCall, ...]:
    """Return one call, or two if the request allows it and the prompt's hash is odd."""
    tools = parsed.tools
    first = digest[0] % len(tools)
    two = parsed.parallel and len(tools) > 1 and digest[1] % 2 == 1
    chosen = [tools[(first + place) % len(tools)] for place in range(1 + two)]
    return tuple(_call(tool, parsed.question.last, digest, place) for place, tool in enumerate(chosen))


def _call(tool: Tool, last: str, digest: bytes, place: int) -> ToolCall:
    seed = _digest(f"{digest.hex()}/{place}/{tool.name}")
    arguments = _object(tool.parameters, topics(last), seed, 0)
    text = json.dumps(arguments, ensure_ascii=False)
    return ToolCall(id=seed.hex()[:24], name=tool.name, arguments=text)


def _object(schema: Mapping[str, Any], words: tuple[str, ...], seed: bytes, depth: int) -> dict[str, Any]:
    properties = schema.get("properties")
    if not isinstance(properties, dict) or depth > _DEEPEST:
        return {}
    return {
        name: _value(inner if isinstance(inner, dict) else {}, words, _digest(f"{seed.hex()}.{name}"), depth)
        for name, inner in properties.items()
    }


def _value(schema: Mapping[str, Any], words: tuple[str, ...], seed: bytes, depth: int) -> Any:
    """Return a value that the JSON schema allows, chosen by the hash ``seed``."""
    allowed = schema.get("enum")
    if isinstance(allowed, list) and allowed:
        return allowed[seed[0] % len(allowed)]
    match schema.get("type"):
        case "integer":
            return seed[0] % 100
        case "number":
            return seed[0] / 4
        case "boolean":
            return seed[0] % 2 == 0
        case "null":
            return None
        case "array":
            items = schema.get("items")
            if depth > _DEEPEST:
                return []
            return [_value(items if isinstance(items, dict) else {}, words, seed, depth + 1)]
        case "object":
            return _object(schema, words, seed, depth + 1)
        case _:
            return words[seed[0] % len(words)]


def _broken_call(call: ToolCall, mode: FaultMode) -> ToolCall:
    match mode:
        case FaultMode.TOOL_NAME:
            return replace(call, name=f"{call.name}_v0")
        case FaultMode.TOOL_ARGUMENTS:
            return replace(call, arguments=call.arguments[:-1] + ",")
        case FaultMode.TOOL_VALUES:
            values = json.loads(call.arguments)
            return replace(call, arguments=json.dumps(dict(list(values.items())[1:]) if values else [None]))
        case _:
            return call


def _limited_calls(calls: tuple[ToolCall, ...], limit: int) -> Choice:
    kept: list[ToolCall] = []
    for call in calls:
        if limit < 1:
            break
        pieces = call.pieces[: limit - 1]
        limit -= 1 + len(call.pieces)
        kept.append(replace(call, arguments="".join(pieces)))
    finish = Finish.TOOL_CALLS if limit >= 0 and len(kept) == len(calls) else Finish.LENGTH
    return Choice(tokens=(), finish=finish, calls=tuple(kept))

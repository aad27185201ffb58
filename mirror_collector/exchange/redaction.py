"""Taking out of messages what must not be kept, before anything is stored.

Two ways, which add up: classes of secrets found by how they look, and JSONPath masks for fields that are
private whatever is in them. A message that cannot be read (an unknown encoding, no UTF-8) cannot be searched
either; it is not kept at all.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

import orjson

from mirror_collector.exchange.encoding import decode

if TYPE_CHECKING:
    from mirror_collector.exchange.model import Body
    from mirror_collector.exchange.reply import Reply

__all__ = ["MASKED", "Redaction", "Secret"]

MASKED: Final = "[masked]"
_MAX_DECODED: Final = 4 << 20
_MAX_DEPTH: Final = 200

Mask = Callable[[Any], None]
"""Changes a JSON value in place."""


class Secret(Enum):
    """What is looked for."""

    EMAIL = "email"
    PHONE = "phone"
    CARD = "card"
    SECRET = "secret"  # noqa: S105 - the name of a class of secrets
    """Keys of well-known services, private keys, tokens, and what is said to be a password."""

    BEARER = "bearer"


_KEYS: Final = (
    r"sk-[A-Za-z0-9_-]{16,}|(?:ghp|gho|ghs|ghu|ghr)_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,}"
    r"|glpat-[A-Za-z0-9_-]{16,}|xox[abeprs]-[A-Za-z0-9-]{10,}|hf_[A-Za-z0-9]{20,}|(?:AKIA|ASIA)[0-9A-Z]{16}"
    r"|AIza[0-9A-Za-z_-]{35}|npm_[A-Za-z0-9]{30,}|pypi-[A-Za-z0-9_-]{16,}|(?:pk|sk|rk)_(?:live|test)_[A-Za-z0-9]{16,}"
    r"|SG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}|eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----(?:.|\n)*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"
)
_SAID: Final = (
    r"(?i:pass(?:word|wd|phrase)|secret|api[_-]?key|access[_-]?token|auth[_-]?token|client[_-]?secret)"
    r"[\"']?\s*(?:[:=]|\bis\b)\s*[\"']?(?P<said>[^\s\"',;]{6,})"
)
_PATTERNS: Final = {
    Secret.SECRET: re.compile(f"(?:{_KEYS})|{_SAID}"),
    Secret.BEARER: re.compile(r"(?i:\bbearer)\s+(?P<said>[A-Za-z0-9._~+/-]{8,}=*)"),
    Secret.EMAIL: re.compile(r"[A-Za-z0-9._%+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}"),
    Secret.CARD: re.compile(r"(?<![\d.])\d(?:[ -]?\d){12,18}(?![\d.]\d)"),
    Secret.PHONE: re.compile(
        r"(?<![\w+])(?:\+\d{1,3}[ .-]?)?(?:\(\d{1,5}\)[ .-]?)?\d{2,5}(?:[ .-]\d{2,8}){1,4}(?!\w)"
        r"|(?<![\w+])\+\d{8,15}(?!\w)|(?<!\w)0\d{8,12}(?!\w)"
    ),
}
_ALL: Final = tuple(_PATTERNS)
_WORDS: Final = (
    *(b"@", b"bearer", b"akia", b"asia", b"aiza", b"sg.", b"eyj", b"passw", b"passphr", b"secret", b"apikey"),
    *(b"token", b"\\u00"),
)
_JOINED: Final = (
    *(b"sk-", b"sk_", b"pk_", b"rk_", b"ghp_", b"gho_", b"ghs_", b"ghu_", b"ghr_", b"github_", b"glpat-"),
    *(b"xox", b"hf_", b"npm_", b"pypi-", b"-----b", b"api_key", b"api-key"),
)
"""Without any of these, in small letters, and without enough digits there is nothing to find; the latter all
hold a dash or a low line."""
_DIGITS: Final = b"0123456789"
_FEWEST: Final = 9
"""Digits of the shortest phone number."""


def _suspicious(data: bytes) -> bool:
    if len(data) - len(data.translate(None, _DIGITS)) >= _FEWEST:
        return True
    small = data.lower()
    # Every message passes here, and a generator costs more than the search itself.
    for word in _WORDS:
        if word in small:
            return True
    if b"_" in small or b"-" in small:
        for word in _JOINED:
            if word in small:
                return True
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Redaction:
    """What is taken out. `masks` are applied to JSON messages before the classes are."""

    classes: frozenset[Secret] = frozenset(Secret)
    masks: tuple[Mask, ...] = ()

    def __bool__(self) -> bool:
        """Whether anything is looked for at all."""
        return bool(self.classes or self.masks)

    def text(self, text: str) -> str:
        """Return a text without what it must not hold."""
        if not _suspicious(text.encode("utf-8", "replace")):
            return text
        for kind in _ALL:
            if kind not in self.classes:
                continue
            match kind:
                case Secret.EMAIL if "@" not in text:
                    continue
                case Secret.CARD:
                    text = _PATTERNS[kind].sub(_card, text)
                case Secret.PHONE:
                    text = _PATTERNS[kind].sub(_phone, text)
                case _:
                    text = _PATTERNS[kind].sub(_NAMES[kind], text)
        return text

    def body(self, body: Body) -> bytes | None:
        """Return a message as it may be kept, its encoding undone; None where it cannot be read."""
        if not self:
            return body.data
        found = decode(body.data, body.content_encoding, limit=_MAX_DECODED)
        if not found.understood:
            return None
        if not self.masks and not _suspicious(found.data):
            return found.data if _is_text(found.data) else None
        try:
            value = orjson.loads(found.data)
        except ValueError:
            # Cut short, or no JSON; what follows a backslash in a cut JSON text is searched as it stands.
            return self._plain(found.data)
        return orjson.dumps(self.value(value))

    def reply(self, reply: Reply) -> Reply:
        """Return an answer as it may be kept."""
        text, reasoning = self.text(reply.text), self.text(reply.reasoning)
        if text is reply.text and reasoning is reply.reasoning and not reply.tool_calls:
            return reply
        return replace(
            reply,
            text=text,
            reasoning=reasoning,
            tool_calls=tuple(
                replace(call, arguments=self._arguments(call.arguments)) for call in reply.tool_calls
            ),
        )

    def value(self, value: Any) -> Any:
        """Return a JSON value as it may be kept."""
        for mask in self.masks:
            mask(value)
        return self._walk(value, 0)

    def _walk(self, value: Any, depth: int) -> Any:
        if isinstance(value, str):
            return self.text(value)
        if depth > _MAX_DEPTH:
            return MASKED
        if isinstance(value, dict):
            return {self.text(key): self._walk(one, depth + 1) for key, one in value.items()}
        if isinstance(value, list):
            return [self._walk(one, depth + 1) for one in value]
        if isinstance(value, int) and abs(value) >= 10**12:
            return self.text(str(value)) if self.text(str(value)) != str(value) else value
        return value

    def _arguments(self, text: str) -> str:
        try:
            return orjson.dumps(self._walk(orjson.loads(text), 0)).decode() if text else text
        except ValueError:
            return self.text(text)

    def _plain(self, data: bytes) -> bytes | None:
        try:
            text = data.decode()
        except UnicodeDecodeError as error:
            if error.end < len(data):
                return None
            text = data[: error.start].decode()  # only cut within a character
        if self.masks and text.lstrip()[:1] in ("{", "["):
            return None  # What is to be masked in it cannot be found.
        return self.text(text.replace("\\n", "\n").replace("\\t", "\t")).encode()


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError as error:
        return error.end == len(data)
    return True


def _put(kind: Secret) -> Callable[[re.Match[str]], str]:
    def put(match: re.Match[str]) -> str:
        said = match.groupdict().get("said")
        if said is None:
            return f"[{kind.value}]"
        return match[0][: match.start("said") - match.start()] + f"[{kind.value}]"

    return put


_NAMES: Final = {kind: _put(kind) for kind in Secret}


def _card(match: re.Match[str]) -> str:
    digits = [int(one) for one in match[0] if one.isdigit()]
    odd = digits[-1::-2]
    even = [2 * one - 9 if one > 4 else 2 * one for one in digits[-2::-2]]
    return "[card]" if (sum(odd) + sum(even)) % 10 == 0 else match[0]


def _phone(match: re.Match[str]) -> str:
    digits = sum(one.isdigit() for one in match[0])
    return "[phone]" if 9 <= digits <= 15 else match[0]

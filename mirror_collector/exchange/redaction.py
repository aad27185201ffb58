"""Redaction of secrets and personal data in messages before they are stored or sent.

Two methods are combined: patterns that detect classes of secrets, and JSONPath masks for fields that are
always private. A message that cannot be decoded (unsupported encoding, not UTF-8) cannot be searched and is
therefore not stored.
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

__all__ = ["MASKED", "Redaction", "SecretKind"]

MASKED: Final = "[masked]"
_MAX_DECODED: Final = 4 << 20
_MAX_DEPTH: Final = 200

Mask = Callable[[Any], None]
"""Masks fields of a JSON value in place."""


class SecretKind(Enum):
    """A class of data that is redacted."""

    EMAIL = "email"
    PHONE = "phone"
    CARD = "card"
    SECRET = "secret"  # noqa: S105 - the name of a class of secrets
    """API keys of known services, private keys, tokens, and values after a name such as `password`."""

    BEARER = "bearer"


_KNOWN_KEYS: Final = (
    r"sk-[A-Za-z0-9_-]{16,}|(?:ghp|gho|ghs|ghu|ghr)_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,}"
    r"|glpat-[A-Za-z0-9_-]{16,}|xox[abeprs]-[A-Za-z0-9-]{10,}|hf_[A-Za-z0-9]{20,}|(?:AKIA|ASIA)[0-9A-Z]{16}"
    r"|AIza[0-9A-Za-z_-]{35}|npm_[A-Za-z0-9]{30,}|pypi-[A-Za-z0-9_-]{16,}|(?:pk|sk|rk)_(?:live|test)_[A-Za-z0-9]{16,}"
    r"|SG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}|eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----(?:.|\n)*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"
)
_ASSIGNED_SECRETS: Final = (
    r"(?i:pass(?:word|wd|phrase)|secret|api[_-]?key|access[_-]?token|auth[_-]?token|client[_-]?secret)"
    r"[\"']?\s*(?:[:=]|\bis\b)\s*[\"']?(?P<assigned>[^\s\"',;]{6,})"
)
_PATTERNS: Final = {
    SecretKind.SECRET: re.compile(f"(?:{_KNOWN_KEYS})|{_ASSIGNED_SECRETS}"),
    SecretKind.BEARER: re.compile(r"(?i:\bbearer)\s+(?P<assigned>[A-Za-z0-9._~+/-]{8,}=*)"),
    SecretKind.EMAIL: re.compile(r"[A-Za-z0-9._%+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}"),
    SecretKind.CARD: re.compile(r"(?<![\d.])\d(?:[ -]?\d){12,18}(?![\d.]\d)"),
    SecretKind.PHONE: re.compile(
        r"(?<![\w+])(?:\+\d{1,3}[ .-]?)?(?:\(\d{1,5}\)[ .-]?)?\d{2,5}(?:[ .-]\d{2,8}){1,4}(?!\w)"
        r"|(?<![\w+])\+\d{8,15}(?!\w)|(?<!\w)0\d{8,12}(?!\w)"
    ),
}
_KINDS: Final = tuple(_PATTERNS)
_HINTS: Final = (
    *(b"@", b"bearer", b"akia", b"asia", b"aiza", b"sg.", b"eyj", b"passw", b"passphr", b"secret", b"apikey"),
    *(b"token", b"\\u00"),
)
_HINTS_WITH_DASH: Final = (
    *(b"sk-", b"sk_", b"pk_", b"rk_", b"ghp_", b"gho_", b"ghs_", b"ghu_", b"ghr_", b"github_", b"glpat-"),
    *(b"xox", b"hf_", b"npm_", b"pypi-", b"-----b", b"api_key", b"api-key"),
)
"""A text contains no secret if its lowercase form has none of these hints and it has few digits. The hints in
`_HINTS_WITH_DASH` are searched only in a text with a dash or an underscore: each secret that they indicate
contains one."""
_DIGITS: Final = b"0123456789"
_MIN_PHONE_DIGITS: Final = 9
"""Number of digits of the shortest phone number."""


def _may_contain_secret(data: bytes) -> bool:
    if len(data) - len(data.translate(None, _DIGITS)) >= _MIN_PHONE_DIGITS:
        return True
    lowercase = data.lower()
    # This runs for every message, and a generator expression costs more than the searches.
    for hint in _HINTS:
        if hint in lowercase:
            return True
    if b"_" in lowercase or b"-" in lowercase:
        for hint in _HINTS_WITH_DASH:
            if hint in lowercase:
                return True
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Redaction:
    """Redacts classes of secrets and masked fields; masks are applied first, to JSON messages only."""

    classes: frozenset[SecretKind] = frozenset(SecretKind)
    masks: tuple[Mask, ...] = ()

    def __bool__(self) -> bool:
        """Whether anything is redacted."""
        return bool(self.classes or self.masks)

    def text(self, text: str) -> str:
        """Return a redacted text."""
        if not _may_contain_secret(text.encode("utf-8", "replace")):
            return text
        for kind in _KINDS:
            if kind not in self.classes:
                continue
            match kind:
                case SecretKind.EMAIL if "@" not in text:
                    continue
                case SecretKind.CARD:
                    text = _PATTERNS[kind].sub(_replace_card, text)
                case SecretKind.PHONE:
                    text = _PATTERNS[kind].sub(_replace_phone, text)
                case _:
                    text = _PATTERNS[kind].sub(_REPLACEMENTS[kind], text)
        return text

    def body(self, body: Body) -> bytes | None:
        """Return the message decoded and redacted; None if it cannot be redacted.

        Without classes and masks, the message is returned as captured, in its content encoding.
        """
        if not self:
            return body.data
        decoded = decode(body.data, body.content_encoding, limit=_MAX_DECODED)
        if not decoded.ok:
            return None
        if not self.masks and not _may_contain_secret(decoded.data):
            return decoded.data if _is_text(decoded.data) else None
        try:
            value = orjson.loads(decoded.data)
        except ValueError:
            # Truncated JSON or no JSON; of its escape sequences, only line breaks and tabs are decoded.
            return self._unparsed(decoded.data)
        return orjson.dumps(self.value(value))

    def reply(self, reply: Reply) -> Reply:
        """Return a redacted reply."""
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
        """Return a redacted JSON value."""
        for mask in self.masks:
            mask(value)
        return self._walk(value, 0)

    def _walk(self, value: Any, depth: int) -> Any:
        if isinstance(value, str):
            return self.text(value)
        if depth > _MAX_DEPTH:
            return MASKED
        if isinstance(value, dict):
            return {self.text(key): self._walk(item, depth + 1) for key, item in value.items()}
        if isinstance(value, list):
            return [self._walk(item, depth + 1) for item in value]
        if isinstance(value, int) and abs(value) >= 10**12:
            return self.text(str(value)) if self.text(str(value)) != str(value) else value
        return value

    def _arguments(self, text: str) -> str:
        try:
            return orjson.dumps(self._walk(orjson.loads(text), 0)).decode() if text else text
        except ValueError:
            return self.text(text)

    def _unparsed(self, data: bytes) -> bytes | None:
        try:
            text = data.decode()
        except UnicodeDecodeError as error:
            if error.end < len(data):
                return None
            text = data[: error.start].decode()  # truncated within a character
        if self.masks and text.lstrip()[:1] in ("{", "["):
            return None  # The fields to mask cannot be located in truncated JSON.
        return self.text(text.replace("\\n", "\n").replace("\\t", "\t")).encode()


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError as error:
        return error.end == len(data)
    return True


def _replacement(kind: SecretKind) -> Callable[[re.Match[str]], str]:
    def replace_match(match: re.Match[str]) -> str:
        assigned = match.groupdict().get("assigned")
        if assigned is None:
            return f"[{kind.value}]"
        return match[0][: match.start("assigned") - match.start()] + f"[{kind.value}]"

    return replace_match


_REPLACEMENTS: Final = {kind: _replacement(kind) for kind in SecretKind}


def _replace_card(match: re.Match[str]) -> str:
    """Redact a number only if its check digit is valid (Luhn algorithm)."""
    digits = [int(character) for character in match[0] if character.isdigit()]
    odd = digits[-1::-2]
    even = [2 * digit - 9 if digit > 4 else 2 * digit for digit in digits[-2::-2]]
    return "[card]" if (sum(odd) + sum(even)) % 10 == 0 else match[0]


def _replace_phone(match: re.Match[str]) -> str:
    digits = sum(character.isdigit() for character in match[0])
    return "[phone]" if 9 <= digits <= 15 else match[0]

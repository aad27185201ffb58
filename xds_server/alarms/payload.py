"""The two payloads that are understood, and who may send one.

Alertmanager posts groups of alerts, and posts them again while they fire. Anything else may post one alert,
as `{"status": "firing", "labels": {...}, "reason": "..."}`, signed: HMAC-SHA256 of "<timestamp>.<body>" in
the header `X-Shiftplane-Signature` as `sha256=<hex>`, the timestamp (seconds since the epoch) in
`X-Shiftplane-Timestamp`.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["Alert", "PayloadError", "SignatureError", "alertmanager", "signature", "verify", "webhook"]

_MOST_ALERTS: Final = 10_000
_MOST_LABELS: Final = 64
_STATES: Final = ("firing", "resolved")
_WINDOW: Final = 300.0


class PayloadError(ValueError):
    """A payload that is not understood; the message names every problem and what is allowed."""


class SignatureError(ValueError):
    """A payload that nobody with the secret has sent just now; the message says what is wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One alert. `identity` is the same each time the same alert is told while it goes on firing."""

    source: str
    firing: bool
    labels: tuple[tuple[str, str], ...]
    words: str
    identity: str

    def matches(self, wanted: dict[str, str]) -> bool:
        """Return whether it has all these labels."""
        return wanted.items() <= dict(self.labels).items()


def alertmanager(document: Any) -> tuple[Alert, ...]:
    """Return the alerts of a group that Alertmanager posted (webhook version 4).

    Raises:
        PayloadError: It is none; nothing of it was taken.
    """
    problems: list[str] = []
    alerts = document.get("alerts") if isinstance(document, dict) else None
    if not isinstance(alerts, list):
        raise PayloadError("alerts: must be a list, as in Alertmanager's webhook version 4")
    if len(alerts) > _MOST_ALERTS:
        raise PayloadError(f"alerts: {len(alerts)} of them; at most {_MOST_ALERTS} are allowed")
    found = [_alert(f"alerts[{number}]", alert, problems) for number, alert in enumerate(alerts)]
    if problems:
        raise PayloadError("; ".join(problems[:20]))
    return tuple(alert for alert in found if alert is not None)


def webhook(document: Any) -> Alert:
    """Return the alert that somebody posted.

    Raises:
        PayloadError: It is none.
    """
    if not isinstance(document, dict):
        raise PayloadError('the body must be an object, such as {"status": "firing", "labels": {...}}')
    problems: list[str] = []
    unknown = sorted(set(document) - {"status", "labels", "reason", "id"})
    problems += [f"{name}: unknown; status, labels, reason and id are allowed" for name in unknown]
    firing, labels = _status("", document, problems), _labels("", document, problems)
    for name in ("reason", "id"):
        if not isinstance(document.get(name, ""), str):
            problems.append(f"{name}: must be text")
    if problems:
        raise PayloadError("; ".join(problems))
    own = document.get("id") or ",".join(f"{name}={value}" for name, value in labels)
    return Alert(
        source="webhook",
        firing=firing,
        labels=labels,
        words=str(document.get("reason", "")),
        identity=str(own),
    )


def signature(secret: bytes, timestamp: str, body: bytes) -> str:
    """Return what the header must say of a body."""
    made = hmac.new(secret, timestamp.encode() + b"." + body, hashlib.sha256)
    return f"sha256={made.hexdigest()}"


def verify(secret: bytes, *, timestamp: str, given: str, body: bytes, now: float) -> None:
    """Make sure that a body was sent by somebody with the secret, a moment ago.

    Raises:
        SignatureError: It was not.
    """
    if not timestamp.isascii() or not timestamp.isdigit():
        raise SignatureError("X-Shiftplane-Timestamp must be seconds since the epoch")
    if not hmac.compare_digest(signature(secret, timestamp, body).encode(), given.encode(errors="replace")):
        raise SignatureError("X-Shiftplane-Signature does not fit: sha256=HMAC(secret, timestamp.body)")
    if abs(now - float(timestamp)) > _WINDOW:
        raise SignatureError(f"X-Shiftplane-Timestamp is more than {_WINDOW:g} s away from this clock")


def _alert(where: str, alert: Any, problems: list[str]) -> Alert | None:
    if not isinstance(alert, dict):
        problems.append(f"{where}: must be an object")
        return None
    before = len(problems)
    firing, labels = _status(f"{where}.", alert, problems), _labels(f"{where}.", alert, problems)
    if len(problems) > before:
        return None
    notes = alert.get("annotations")
    notes = notes if isinstance(notes, dict) else {}
    words = next((str(notes[key]) for key in ("summary", "description") if notes.get(key)), "")
    print_, since = str(alert.get("fingerprint") or labels), str(alert.get("startsAt") or "")
    return Alert(
        source="alertmanager", firing=firing, labels=labels, words=words, identity=f"{print_}@{since}"
    )


def _status(where: str, values: dict[str, Any], problems: list[str]) -> bool:
    status = values.get("status")
    if status not in _STATES:
        problems.append(f"{where}status: {status!r}; firing and resolved are allowed")
    return status == "firing"


def _labels(where: str, values: dict[str, Any], problems: list[str]) -> tuple[tuple[str, str], ...]:
    labels = values.get("labels")
    if not isinstance(labels, dict) or not all(isinstance(value, str) for value in labels.values()):
        problems.append(f"{where}labels: must be an object of texts")
        return ()
    if not labels or len(labels) > _MOST_LABELS:
        problems.append(f"{where}labels: 1 to {_MOST_LABELS} of them are allowed")
    return tuple(sorted(labels.items()))

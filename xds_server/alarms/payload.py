"""The two accepted alarm payloads, and the signature of webhooks.

Alertmanager posts groups of alerts, and repeats them while they fire. Any other sender may post one alert,
`{"status": "firing", "labels": {...}, "reason": "..."}`, and must sign it: `X-Shiftplane-Timestamp` has the
seconds since the epoch, and `X-Shiftplane-Signature` is `sha256=<hex>`, the HMAC-SHA256 of
"<timestamp>.<body>".
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["Alert", "PayloadError", "SignatureError", "alertmanager", "signature", "verify", "webhook"]

_MAX_ALERTS: Final = 10_000
_MAX_PROBLEMS: Final = 20
_MAX_LABELS: Final = 64
_STATES: Final = ("firing", "resolved")
_MAX_AGE: Final = 300.0


class PayloadError(ValueError):
    """The payload is not valid; the message names the problems and what is allowed."""


class SignatureError(ValueError):
    """The signature is missing or wrong, or its timestamp is invalid or too far from the present."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One alert; `identity` stays the same while the sender repeats the alert."""

    source: str
    firing: bool
    labels: tuple[tuple[str, str], ...]
    message: str
    identity: str

    def matches(self, labels: dict[str, str]) -> bool:
        """Return whether the alert has all these labels."""
        return labels.items() <= dict(self.labels).items()


def alertmanager(document: Any) -> tuple[Alert, ...]:
    """Return the alerts of a group posted by Alertmanager (webhook version 4).

    Raises:
        PayloadError: The payload is not such a group, or too large; none of its alerts is accepted.
    """
    problems: list[str] = []
    alerts = document.get("alerts") if isinstance(document, dict) else None
    if not isinstance(alerts, list):
        raise PayloadError("alerts: must be a list, as in Alertmanager's webhook version 4")
    if len(alerts) > _MAX_ALERTS:
        raise PayloadError(f"alerts: {len(alerts)} entries; at most {_MAX_ALERTS} are allowed")
    found = [_alert(f"alerts[{number}]", alert, problems) for number, alert in enumerate(alerts)]
    if problems:
        rest = len(problems) - _MAX_PROBLEMS
        more = [f"and {rest} more problem{'s' if rest != 1 else ''}"] if rest > 0 else []
        raise PayloadError("; ".join(problems[:_MAX_PROBLEMS] + more))
    return tuple(alert for alert in found if alert is not None)


def webhook(document: Any) -> Alert:
    """Return the alert of a webhook payload.

    Raises:
        PayloadError: The payload is not valid.
    """
    if not isinstance(document, dict):
        raise PayloadError('the body must be an object, such as {"status": "firing", "labels": {...}}')
    problems: list[str] = []
    unknown = sorted(set(document) - {"status", "labels", "reason", "id"})
    problems += [f"{name}: unknown field; status, labels, reason and id are allowed" for name in unknown]
    firing, labels = _status("", document, problems), _labels("", document, problems)
    for name in ("reason", "id"):
        if not isinstance(document.get(name, ""), str):
            problems.append(f"{name}: must be text")
    if problems:
        raise PayloadError("; ".join(problems))
    identity = document.get("id") or ",".join(f"{name}={value}" for name, value in labels)
    return Alert(
        source="webhook",
        firing=firing,
        labels=labels,
        message=str(document.get("reason", "")),
        identity=str(identity),
    )


def signature(secret: bytes, timestamp: str, body: bytes) -> str:
    """Return the value of the signature header for a body."""
    made = hmac.new(secret, timestamp.encode() + b"." + body, hashlib.sha256)
    return f"sha256={made.hexdigest()}"


def verify(secret: bytes, *, timestamp: str, given: str, body: bytes, now: float) -> None:
    """Check that a body was signed with the secret, at most `_MAX_AGE` seconds from `now`.

    Raises:
        SignatureError: The signature is wrong, or its timestamp is invalid or too far from `now`.
    """
    if not timestamp.isascii() or not timestamp.isdigit():
        raise SignatureError("X-Shiftplane-Timestamp must be whole seconds since the Unix epoch")
    if not hmac.compare_digest(signature(secret, timestamp, body).encode(), given.encode(errors="replace")):
        raise SignatureError(
            "X-Shiftplane-Signature does not match; it must be sha256=<hex>, the HMAC-SHA256 of "
            '"<timestamp>.<body>" with the content of --alarm-secret-file as the key'
        )
    if abs(now - float(timestamp)) > _MAX_AGE:
        raise SignatureError(
            f"X-Shiftplane-Timestamp differs by more than {_MAX_AGE:g} s from the control plane's clock; "
            "check the sender's clock, and sign each request anew"
        )


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
    message = next((str(notes[key]) for key in ("summary", "description") if notes.get(key)), "")
    print_, since = str(alert.get("fingerprint") or labels), str(alert.get("startsAt") or "")
    return Alert(
        source="alertmanager", firing=firing, labels=labels, message=message, identity=f"{print_}@{since}"
    )


def _status(where: str, values: dict[str, Any], problems: list[str]) -> bool:
    status = values.get("status")
    if status not in _STATES:
        problems.append(f"{where}status: must be firing or resolved, not {status!r}")
    return status == "firing"


def _labels(where: str, values: dict[str, Any], problems: list[str]) -> tuple[tuple[str, str], ...]:
    labels = values.get("labels")
    if not isinstance(labels, dict) or not all(isinstance(value, str) for value in labels.values()):
        problems.append(f"{where}labels: must be an object with text values")
        return ()
    if not labels or len(labels) > _MAX_LABELS:
        problems.append(f"{where}labels: {len(labels)} labels; 1 to {_MAX_LABELS} are allowed")
    return tuple(sorted(labels.items()))

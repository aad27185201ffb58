"""What an identity provider says of somebody → what they may do (pure)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from xds_server.access.identity.roles import Grant

__all__ = ["ClaimRule", "granted", "said"]

_LONGEST = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimRule:
    """Whoever has this value in this claim has this grant; dots lead into nested claims."""

    claim: str
    value: str
    grant: Grant


def granted(claims: Mapping[str, Any], rules: Iterable[ClaimRule]) -> tuple[Grant, ...]:
    """Return all grants that follow from the claims."""
    found = {rule.grant: None for rule in rules if rule.value in _values(_claim(claims, rule.claim))}
    return tuple(found)


def said(claims: Mapping[str, Any], name: str) -> str:
    """Return a claim as a name to show; its subject where there is no such claim."""
    for one in (_claim(claims, name), claims.get("sub")):
        text = "".join(char for char in one if char.isprintable()).strip() if isinstance(one, str) else ""
        if text:
            return text[:_LONGEST]
    return "somebody"


def _claim(claims: Mapping[str, Any], name: str) -> Any:
    if name == "email" and claims.get("email_verified") in (False, "false"):
        return None  # Anybody could have said that it is theirs.
    if name in claims:
        return claims[name]
    found: Any = claims
    for part in name.split("."):
        if not isinstance(found, dict):
            return None
        found = found.get(part)
    return found


def _values(value: Any) -> list[str]:
    if isinstance(value, bool):
        return ["true" if value else "false"]
    if isinstance(value, str):
        return [value]
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []

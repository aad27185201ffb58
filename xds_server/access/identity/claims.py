"""Map the claims of an OpenID Connect ID token to grants and a display name (pure)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from xds_server.access.identity.roles import Grant

__all__ = ["ClaimRule", "display_name", "grants_from_claims"]

_MAX_NAME_LENGTH: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimRule:
    """Grants a role to users whose claim equals `value` or is a list with it; dots select nested claims."""

    claim: str
    value: str
    grant: Grant


def grants_from_claims(claims: Mapping[str, Any], rules: Iterable[ClaimRule]) -> tuple[Grant, ...]:
    """Return the grants of all rules that match the claims, without duplicates."""
    found = {rule.grant: None for rule in rules if rule.value in _values(_claim(claims, rule.claim))}
    return tuple(found)


def display_name(claims: Mapping[str, Any], name: str) -> str:
    """Return the claim `name` as printable text; without it the subject, or else `unknown user`."""
    for value in (_claim(claims, name), claims.get("sub")):
        text = "".join(char for char in value if char.isprintable()).strip() if isinstance(value, str) else ""
        if text:
            return text[:_MAX_NAME_LENGTH]
    return "unknown user"


def _claim(claims: Mapping[str, Any], name: str) -> Any:
    if name == "email" and claims.get("email_verified") in (False, "false"):
        return None  # An address that the provider has not verified may belong to another user.
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
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []

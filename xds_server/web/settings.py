"""Load the access settings: an identity provider and session limits."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import Field

from xds_server.access.identity import ClaimRule, Grant, Role
from xds_server.spec import Finding, read_as, referenced_content
from xds_server.spec.scalars import DurationMin1s, ShortText, SpecModel, Url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from xds_server.spec import Problem

__all__ = ["Access", "Oidc", "SessionLimits", "load_access"]

_EXPECTED: Final = (
    "expected a mapping such as {oidc: {issuer: https://…, clientId: …, clientSecretFile: …, roles: […]}}"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionLimits:
    """The lifetime of a session, and the time it may be idle, in seconds."""

    lifetime: float = 8 * 3600.0
    idle: float = 3600.0


_DEFAULT_LIMITS: Final = SessionLimits()


class _Rule(SpecModel):
    """Gives users whose claim has this value a role over the routes with these labels."""

    claim: ShortText
    value: ShortText
    role: Literal["viewer", "operator", "admin"]
    routes: dict[str, str] = Field(default_factory=dict)


class _Oidc(SpecModel):
    """An OpenID Connect provider."""

    issuer: Url
    client_id: ShortText
    client_secret_file: ShortText
    label: ShortText | None = None
    scopes: Annotated[tuple[ShortText, ...], Field(strict=False, min_length=1)] = (
        "openid",
        "profile",
        "email",
    )
    name_claim: ShortText = "email"
    roles: Annotated[tuple[_Rule, ...], Field(strict=False, min_length=1)]


class _Session(SpecModel):
    """The lifetime of a session, and the time it may be idle."""

    lifetime: DurationMin1s = timedelta(seconds=_DEFAULT_LIMITS.lifetime)
    idle: DurationMin1s = timedelta(seconds=_DEFAULT_LIMITS.idle)


class _Access(SpecModel):
    """The content of the access settings file."""

    oidc: _Oidc | None = None
    session: _Session = _Session()


@dataclass(frozen=True, slots=True, kw_only=True)
class Oidc:
    """An OpenID Connect provider, and the rules that map its claims to grants."""

    issuer: str
    client_id: str
    client_secret: str = field(repr=False)
    label: str
    scopes: tuple[str, ...]
    name_claim: str
    rules: tuple[ClaimRule, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """The access settings: an optional identity provider, and the limits of sessions."""

    oidc: Oidc | None = None
    limits: SessionLimits = SessionLimits()


def load_access(
    text: str, *, file: str, read: Callable[[str], str]
) -> tuple[Access | None, tuple[Problem, ...]]:
    """Return the settings, or None and all problems; `read` returns the text of a file the settings name."""
    secrets: list[str] = []

    def check(values: dict[str, Any]) -> Iterator[Finding]:
        oidc = values.get("oidc")
        if not isinstance(oidc, dict):
            return
        if "openid" not in (oidc.get("scopes") or ["openid"]):
            yield Finding(
                ("oidc", "scopes"),
                "the scope openid is missing",
                "providers issue an ID token only for this scope",
            )
        name = oidc.get("clientSecretFile")
        if isinstance(name, str):
            secret = referenced_content(("oidc", "clientSecretFile"), name, read)
            if isinstance(secret, Finding):
                yield secret
            else:
                secrets.append(secret)

    model, problems = read_as(text, _Access, file=file, expected=_EXPECTED, check=check)
    if model is None or problems:
        return None, problems
    found = model.oidc
    oidc = None
    if found is not None:
        oidc = Oidc(
            issuer=found.issuer.rstrip("/"),
            client_id=found.client_id,
            client_secret=secrets[0],
            label=found.label or found.issuer,
            scopes=found.scopes,
            name_claim=found.name_claim,
            rules=tuple(_rule(rule) for rule in found.roles),
        )
    session = model.session
    limits = SessionLimits(lifetime=session.lifetime.total_seconds(), idle=session.idle.total_seconds())
    return Access(oidc=oidc, limits=limits), problems


def _rule(rule: _Rule) -> ClaimRule:
    labels = tuple(sorted(rule.routes.items()))
    return ClaimRule(
        claim=rule.claim, value=rule.value, grant=Grant(role=Role[rule.role.upper()], labels=labels)
    )

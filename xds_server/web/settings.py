"""The file that says who may log in, for how long: YAML → values, or every problem at once with its place."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import Field

from xds_server.access.identity import ClaimRule, Grant, Role
from xds_server.spec import Finding, read_as
from xds_server.spec.scalars import DurationMin1s, ShortText, SpecModel, Url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from xds_server.spec import Problem

__all__ = ["Access", "Oidc", "SessionLimits", "load_access"]

_NEEDED: Final = "a mapping such as {oidc: {issuer: https://…, clientId: …, roles: […]}} is needed"


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionLimits:
    """Seconds a login lasts, and may lie unused."""

    lifetime: float = 8 * 3600.0
    idle: float = 3600.0


_USUAL: Final = SessionLimits()


class _Rule(SpecModel):
    """Whoever has this value in this claim has this role, over routes with these labels."""

    claim: ShortText
    value: ShortText
    role: Literal["viewer", "operator", "admin"]
    routes: dict[str, str] = Field(default_factory=dict)


class _Oidc(SpecModel):
    """An identity provider."""

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
    """How long a login lasts, and may lie unused."""

    lifetime: DurationMin1s = timedelta(seconds=_USUAL.lifetime)
    idle: DurationMin1s = timedelta(seconds=_USUAL.idle)


class _Access(SpecModel):
    """The whole file."""

    oidc: _Oidc | None = None
    session: _Session = _Session()


@dataclass(frozen=True, slots=True, kw_only=True)
class Oidc:
    """An identity provider, and what follows from what it says. The secret never prints."""

    issuer: str
    client_id: str
    client_secret: str = field(repr=False)
    label: str
    scopes: tuple[str, ...]
    name_claim: str
    rules: tuple[ClaimRule, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Who may log in, and for how long."""

    oidc: Oidc | None = None
    limits: SessionLimits = SessionLimits()


def load_access(
    text: str, *, file: str, read: Callable[[str], str]
) -> tuple[Access | None, tuple[Problem, ...]]:
    """Return what a file says, or None and all that is wrong with it; `read` reads files it names."""
    secrets: list[str] = []

    def check(values: dict[str, Any]) -> Iterator[Finding]:
        oidc = values.get("oidc")
        if not isinstance(oidc, dict):
            return
        if "openid" not in (oidc.get("scopes") or ["openid"]):
            yield Finding(
                ("oidc", "scopes"), "openid is missing", "a provider tells who it is for that scope only"
            )
        name = oidc.get("clientSecretFile")
        if isinstance(name, str):
            try:
                secrets.append(read(name).strip())
            except (OSError, ValueError) as error:
                words = getattr(error, "strerror", None) or "cannot be read"
                yield Finding(
                    ("oidc", "clientSecretFile"), f"{name}: {words}", "a file that can be read is needed"
                )

    model, problems = read_as(text, _Access, file=file, expected=_NEEDED, check=check)
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

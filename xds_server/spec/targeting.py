"""User attributes, token issuers, and the assignment of users to backends."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Discriminator, Field, Tag

from xds_server.spec.scalars import (
    Claim,
    HeaderName,
    LongText,
    Name,
    Path,
    Percent,
    ShortText,
    SpecModel,
    Url,
)

__all__ = [
    "BACKEND",
    "OPERATORS",
    "SPLIT",
    "AttributeSource",
    "Clause",
    "Jwks",
    "JwtProvider",
    "KillSwitch",
    "Operator",
    "Rule",
    "Serve",
    "Stickiness",
    "Target",
    "Targeting",
]

Operator = Literal[
    "in",
    "notIn",
    "startsWith",
    "endsWith",
    "contains",
    "matches",
    "exists",
    "notExists",
    "greaterThan",
    "greaterOrEqual",
    "lessThan",
    "lessOrEqual",
    "semverGreaterThan",
    "semverGreaterOrEqual",
    "semverLessThan",
    "semverLessOrEqual",
]
OPERATORS: tuple[str, ...] = Operator.__args__  # type: ignore[attr-defined]


class AttributeSource(SpecModel):
    """Where a proxy reads an attribute: a header, or a claim of a verified JWT; exactly one of the two."""

    header: HeaderName | None = None
    """The request header that carries the value."""

    claim: Claim | None = None
    """The claim of a verified token. Dots select nested claims."""

    provider: Name | None = None
    """The entry of `jwtProviders` whose tokens have the claim. Optional if there is only one entry."""


class Jwks(SpecModel):
    """The public keys that verify tokens: inline JSON, or a URL; exactly one of the two."""

    inline: LongText | None = None
    """The JSON Web Key Set (JWKS)."""

    url: Url | None = None
    """The URL from which the proxies fetch the key set."""

    ca_file: Path = "/etc/ssl/certs/ca-certificates.crt"
    """Path of a CA bundle in the file system of each proxy, used to verify an https URL."""


class JwtProvider(SpecModel):
    """A trusted token issuer. Requests without a valid token are not rejected; they have no claims."""

    issuer: ShortText
    """The required `iss` claim of the tokens."""

    audiences: Annotated[tuple[ShortText, ...], Field(strict=False, max_length=16)] = ()
    """Accepted `aud` claims. Without an entry, every audience is accepted."""

    jwks: Jwks
    """The public keys that verify the tokens."""


class Clause(SpecModel):
    """One condition on an attribute."""

    attribute: ShortText
    """The name of an entry of `attributes`."""

    op: Operator
    """The operator that compares the attribute with `values`."""

    values: Annotated[tuple[ShortText, ...], Field(strict=False, max_length=200)] = ()
    """The values to compare with. At least one must match; with `notIn`, no value may match. Comparisons of
    numbers and versions take exactly one value, `exists` and `notExists` take none.
    """


class Stickiness(SpecModel):
    """The attribute that keeps a user on the same backend or prompt version of a split."""

    attribute: ShortText
    """The name of an entry of `attributes`."""

    salt: ShortText | None = None
    """Splits with different salts are independent of each other. By default the name of the route, followed
    by `/rule/` and the name of the rule in a rule, and by `/prompt` in a prompt rollout.
    """


class Serve(SpecModel):
    """A weighted split of the users that match a rule."""

    weights: dict[Name, Percent]
    """Percentages by backend. They must add up to 100."""

    stickiness: Stickiness | None = None
    """The stickiness of the split. By default that of the strategy, with the default salt of the rule."""


class Target(SpecModel):
    """Serve the users with specific attribute values by one backend."""

    attribute: ShortText
    """The name of an entry of `attributes`."""

    values: Annotated[tuple[ShortText, ...], Field(strict=False, min_length=1, max_length=200)]
    """The attribute values of the users."""

    serve: Name
    """The backend that serves these users."""


# Pydantic adds these tags to the path of an error; they do not occur in the YAML.
BACKEND: Final = "[backend]"
SPLIT: Final = "[split]"


def _serve_tag(value: object) -> str | None:
    """Return the tag of the shape of `serve`, so that errors refer to that shape only; None for others."""
    match value:
        case str():
            return BACKEND
        case dict() | Serve():
            return SPLIT
        case _:
            return None


class Rule(SpecModel):
    """Serve the users that match all clauses by one backend, or split them."""

    name: Name
    """The name of the rule, unique in the route. The default salt contains it."""

    clauses: Annotated[tuple[Clause, ...], Field(strict=False, min_length=1, max_length=16)]
    """The conditions. A user must match all of them."""

    serve: Annotated[Annotated[Name, Tag(BACKEND)] | Annotated[Serve, Tag(SPLIT)], Discriminator(_serve_tag)]
    """The name of a backend, or a split."""


class Targeting(SpecModel):
    """Assign users to backends, independent of the strategy. Targets are evaluated before rules.

    While an assigned backend has no healthy endpoint, the stable backend serves its users.
    """

    targets: Annotated[tuple[Target, ...], Field(strict=False, max_length=100)] = ()
    """Assignments of specific attribute values. The first match applies."""

    rules: Annotated[tuple[Rule, ...], Field(strict=False, max_length=50)] = ()
    """Assignments by conditions, evaluated after all targets. The first match applies."""


class KillSwitch(SpecModel):
    """Serve all users by one backend at once. Copies, capture and prompt injection stop."""

    enabled: bool = False
    """Whether the kill switch is on."""

    serve: Name | None = None
    """The backend that serves all users. By default the stable backend."""

    reason: ShortText | None = None
    """The reason for the kill. Required while the kill switch is on."""

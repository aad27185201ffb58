"""Who a user is to a proxy, and which users are served by what."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Discriminator, Field, Tag

from xds_server.spec.scalars import Claim, HeaderName, Name, Part, Path, Percent, Plain, Prose, Url

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


class AttributeSource(Part):
    """Where an attribute of a user is found: a header, or a claim of a verified JWT; exactly one.

    `provider` names an entry of `jwtProviders`; it may be left out where there is one only.
    """

    header: HeaderName | None = None
    claim: Claim | None = None
    provider: Name | None = None


class Jwks(Part):
    """The keys that sign tokens: their JSON text, or where it is fetched; exactly one.

    `ca_file` is where proxies find whom to believe about an https URL.
    """

    inline: Prose | None = None
    url: Url | None = None
    ca_file: Path = "/etc/ssl/certs/ca-certificates.crt"


class JwtProvider(Part):
    """Whose tokens are believed. A token that is missing or wrong refuses nobody: its claims are absent."""

    issuer: Plain
    audiences: Annotated[tuple[Plain, ...], Field(strict=False, max_length=16)] = ()
    jwks: Jwks


class Clause(Part):
    """One condition on an attribute. Of several values one must do; `exists` and `notExists` take none."""

    attribute: Plain
    op: Operator
    values: Annotated[tuple[Plain, ...], Field(strict=False, max_length=200)] = ()


class Stickiness(Part):
    """By what users stay where they are; `salt` makes splits independent of each other.

    By default it is the route's name, for a rule followed by that of the rule.
    """

    attribute: Plain
    salt: Plain | None = None


class Serve(Part):
    """A split inside a rule: percentages by backend, 100 in all."""

    weights: dict[Name, Percent]
    stickiness: Stickiness | None = None


class Target(Part):
    """Individuals: users with one of these values are served by one backend."""

    attribute: Plain
    values: Annotated[tuple[Plain, ...], Field(strict=False, min_length=1, max_length=200)]
    serve: Name


# Pydantic puts these into the place of an error; they are no part of the YAML.
BACKEND: Final = "[backend]"
SPLIT: Final = "[split]"


def _served_by(value: object) -> str | None:
    """Return which of its two shapes `serve` has, so that only that one is spoken of."""
    match value:
        case str():
            return BACKEND
        case dict() | Serve():
            return SPLIT
        case _:
            return None


class Rule(Part):
    """Users of whom all clauses hold are served by a backend, or split."""

    name: Name
    clauses: Annotated[tuple[Clause, ...], Field(strict=False, min_length=1, max_length=16)]
    serve: Annotated[Annotated[Name, Tag(BACKEND)] | Annotated[Serve, Tag(SPLIT)], Discriminator(_served_by)]


class Targeting(Part):
    """Who is served by what, whatever the strategy: targets first, then rules, in their order."""

    targets: Annotated[tuple[Target, ...], Field(strict=False, max_length=100)] = ()
    rules: Annotated[tuple[Rule, ...], Field(strict=False, max_length=50)] = ()


class KillSwitch(Part):
    """Everyone is served by one backend, at once; copies and capture stop. `serve` is stable if left out."""

    enabled: bool = False
    serve: Name | None = None
    reason: Plain | None = None

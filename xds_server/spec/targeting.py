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
    """Where an attribute of a user is found: a header, or a claim of a verified JWT; exactly one."""

    header: HeaderName | None = None
    """The header that carries it."""

    claim: Claim | None = None
    """The claim of a verified token; dots lead into nested claims."""

    provider: Name | None = None
    """An entry of `jwtProviders`; it may be left out where there is one only."""


class Jwks(Part):
    """The keys that sign tokens: their JSON text, or where it is fetched; exactly one."""

    inline: Prose | None = None
    """The public keys as JSON."""

    url: Url | None = None
    """Where proxies fetch them."""

    ca_file: Path = "/etc/ssl/certs/ca-certificates.crt"
    """Whom proxies believe about an https URL: a file beside each proxy."""


class JwtProvider(Part):
    """Whose tokens are believed. A token that is missing or wrong refuses nobody: its claims are absent."""

    issuer: Plain
    """The `iss` of its tokens."""

    audiences: Annotated[tuple[Plain, ...], Field(strict=False, max_length=16)] = ()
    """The `aud` its tokens may have; none: any."""

    jwks: Jwks
    """The keys that sign its tokens."""


class Clause(Part):
    """One condition on an attribute."""

    attribute: Plain
    """An entry of `attributes`."""

    op: Operator
    """How its value is looked at."""

    values: Annotated[tuple[Plain, ...], Field(strict=False, max_length=200)] = ()
    """Against what; of several one must do. `exists` and `notExists` take none."""


class Stickiness(Part):
    """By what users stay where they are."""

    attribute: Plain
    """An entry of `attributes`."""

    salt: Plain | None = None
    """Makes splits independent of each other; by default the route's name, for a rule followed by that of
    the rule.
    """


class Serve(Part):
    """A split inside a rule: percentages by backend, 100 in all."""

    weights: dict[Name, Percent]
    """Percentages by backend, 100 in all."""

    stickiness: Stickiness | None = None
    """By what users stay where they are; by default the strategy's attribute, with the rule's own salt."""


class Target(Part):
    """Individuals: users with one of these values are served by one backend."""

    attribute: Plain
    """An entry of `attributes`."""

    values: Annotated[tuple[Plain, ...], Field(strict=False, min_length=1, max_length=200)]
    """Users with one of these are meant."""

    serve: Name
    """The backend they get."""


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
    """Unlike the others; part of the default salt."""

    clauses: Annotated[tuple[Clause, ...], Field(strict=False, min_length=1, max_length=16)]
    """All must hold."""

    serve: Annotated[Annotated[Name, Tag(BACKEND)] | Annotated[Serve, Tag(SPLIT)], Discriminator(_served_by)]
    """A backend, or a split."""


class Targeting(Part):
    """Who is served by what, whatever the strategy: targets first, then rules, in their order."""

    targets: Annotated[tuple[Target, ...], Field(strict=False, max_length=100)] = ()
    """Individuals, in their order."""

    rules: Annotated[tuple[Rule, ...], Field(strict=False, max_length=50)] = ()
    """Rules, in their order, after all targets."""


class KillSwitch(Part):
    """Everyone is served by one backend, at once; copies and capture stop, prompts are left away."""

    enabled: bool = False
    """Whether it is on."""

    serve: Name | None = None
    """That backend; by default the stable one."""

    reason: Plain | None = None
    """Why; needed while it is on."""

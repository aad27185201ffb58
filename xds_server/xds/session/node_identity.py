"""Check whether a node may use a client certificate, by the names in the certificate (pure).

A template defines which part of a name is a node's id or group: `spiffe://*/ns/*/sa/{group}` is a URI whose
last segment is the group, `dns:{id}.{group}.mesh` a DNS name with both. A placeholder or `*` matches a part
of one segment, between two slashes of a URI or two dots of a DNS name, and is never empty. Names are compared
as text: no character of a node's id or group has a special meaning.

Every part of a certificate that identifies a node must match the node. If there is a template for ids and one
for groups, and a certificate has names of both forms, both the id and the group must match.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = [
    "DEFAULT_TEMPLATES",
    "IdentityRule",
    "NodeDeniedError",
    "Peer",
    "TemplateError",
    "authorize_node",
    "parse_rule",
]

DEFAULT_TEMPLATES: Final = ("spiffe://*/ns/*/sa/{group}", "dns:{id}")

_DNS: Final = "dns:"
_SPIFFE: Final = "spiffe://"
_WILD: Final = re.compile(r"\*|\{[^{}]*\}")
_SCHEME: Final = re.compile(r"[a-z][a-z0-9+.-]*://")
_ANY: Final = frozenset({"*", "{trust_domain}"})
_MAX_NAMES_SHOWN: Final = 5
_MAX_CHARACTERS_SHOWN: Final = 120


class TemplateError(ValueError):
    """A template is invalid; the message gives the reason."""


class NodeDeniedError(Exception):
    """A client's certificate does not match its node.

    `identified` is true if the certificate matches a template, and thus another node, and false if it
    identifies no node.
    """

    def __init__(self, message: str, *, identified: bool) -> None:
        super().__init__(message)
        self.identified = identified


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """The URI and DNS subject alternative names of a verified client certificate."""

    uris: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()

    def __str__(self) -> str:
        names = [*self.uris, *(_DNS + name for name in self.dns)]
        shown = [_short(name) for name in names[:_MAX_NAMES_SHOWN]]
        more = [f"{len(names) - len(shown)} more"] if len(names) > len(shown) else []
        return ", ".join([*shown, *more]) or "neither a URI nor a DNS name"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Identity:
    """The id and group in one name of a certificate; None if the name has no such part."""

    id: str | None
    group: str | None

    def matches(self, node_id: str, group: str) -> bool:
        return self.id in {None, node_id} and self.group in {None, group}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Segment:
    """One segment of a template: text, or text around one placeholder (`wild`)."""

    before: str
    wild: str
    after: str

    def match(self, text: str) -> str | None:
        """Return the text that the placeholder matches, "" if there is none, or None if `text` differs."""
        if not self.wild:
            return "" if text == self.before else None
        if not text.startswith(self.before) or not text.endswith(self.after):
            return None
        return text[len(self.before) : len(text) - len(self.after)] or None


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityRule:
    """A parsed identity template; created by `parse_rule`."""

    template: str
    separator: str
    segments: tuple[_Segment, ...]

    def match(self, name: str) -> dict[str, str] | None:
        """Return the values of `{id}` and `{group}` in a name, or None if the name has another form."""
        parts = name.split(self.separator)
        if len(parts) != len(self.segments):
            return None
        found = {}
        for segment, part in zip(self.segments, parts, strict=True):
            value = segment.match(part)
            if value is None:
                return None
            found[segment.wild] = value
        return {key[1:-1]: value for key, value in found.items() if key in {"{id}", "{group}"}}

    def names(self, peer: Peer) -> tuple[str, ...]:
        """Return the names that this rule applies to; a wildcard DNS name does not identify a node."""
        return tuple(name for name in peer.dns if "*" not in name) if self.separator == "." else peer.uris

    def expected_name(self, node_id: str, group: str) -> str:
        """Return the name that a certificate of this node must have, for an error message."""
        text = self.template
        for name, value in (("{id}", node_id), ("{group}", group)):
            if name in text and self.separator in value:
                return (
                    f"{self.template} (cannot match {_short(value)!r}: {name} must not contain "
                    f"{self.separator!r})"
                )
        # One substitution for all placeholders: an id that looks like a placeholder is not substituted.
        values = {"{id}": _short(node_id), "{group}": _short(group)}
        return _WILD.sub(lambda found: values.get(found[0], found[0]), text)


def parse_rule(template: str) -> IdentityRule:
    """Parse an identity template.

    Raises:
        TemplateError: The template is malformed, ambiguous, or has neither `{id}` nor `{group}`.
    """
    if template.startswith(_DNS):
        separator, body = ".", template.removeprefix(_DNS)
    elif _SCHEME.match(template):
        separator, body = "/", template
    else:
        raise TemplateError(f"{template!r} is neither a URI, such as spiffe://mesh/{{group}}, nor dns:NAME")
    segments = tuple(_segment(template, text) for text in body.split(separator))
    wild = [segment.wild for segment in segments]
    for name in ("{id}", "{group}"):
        if wild.count(name) > 1:
            raise TemplateError(f"{template!r} has {name} more than once")
    if not {"{id}", "{group}"} & set(wild):
        raise TemplateError(
            f"{template!r} has neither {{id}} nor {{group}}: every node could use a certificate with this "
            "name"
        )
    if "{trust_domain}" in wild and (separator == "." or wild.index("{trust_domain}") != 2):
        raise TemplateError(f"{template!r} has {{trust_domain}} in the wrong place: it must follow ://")
    first = 2 if separator == "/" else 0
    if not all(segment.before or segment.wild for segment in segments[first:]):
        raise TemplateError(f"{template!r} has an empty segment; remove the {separator!r} next to it")
    return IdentityRule(template=template, separator=separator, segments=segments)


def authorize_node(rules: Iterable[IdentityRule], peer: Peer, *, node_id: str, group: str) -> None:
    """Return if the node may use a certificate with the names in `peer`.

    Raises:
        NodeDeniedError: The certificate identifies another node, or none.
    """
    rules = tuple(rules)
    expected = " or ".join(rule.expected_name(node_id, group) for rule in rules)
    node = f"node {_short(node_id)!r} of group {_short(group)!r}"
    if sum(uri.startswith(_SPIFFE) for uri in peer.uris) > 1:
        raise NodeDeniedError(
            f"{node}: the certificate has several SPIFFE ids, at most one is allowed; it has {peer}",
            identified=False,
        )
    identities = tuple(_identities(rules, peer))
    if not identities:
        raise NodeDeniedError(
            f"{node}: no name of the certificate matches an identity template (--xds-identity); "
            f"the certificate has {peer}; expected: {expected}",
            identified=False,
        )
    matching = [identity for identity in identities if identity.matches(node_id, group)]
    for part, values, matched in (
        ("id", [one.id for one in identities], [one.id for one in matching]),
        ("group", [one.group for one in identities], [one.group for one in matching]),
    ):
        # A part that no name contains is unrestricted. A part that some name contains must be in a name that
        # matches the node in all its parts.
        if any(value is not None for value in values) and all(value is None for value in matched):
            both = any(None not in {one.id, one.group} for one in identities)
            raise NodeDeniedError(
                f"{node}: the certificate is for another {'id or group' if both else part}; "
                f"the certificate has {peer}; expected: {expected}",
                identified=True,
            )


def _identities(rules: Iterable[IdentityRule], peer: Peer) -> Iterator[_Identity]:
    for rule in rules:
        for name in rule.names(peer):
            found = rule.match(name)
            if found is not None:
                yield _Identity(id=found.get("id"), group=found.get("group"))


def _segment(template: str, text: str) -> _Segment:
    found = _WILD.findall(text)
    if len(found) > 1:
        raise TemplateError(
            f"{template!r} has several placeholders in {text!r}, which is ambiguous; "
            "use at most one in each segment"
        )
    before, wild, after = text.partition(found[0]) if found else (text, "", "")
    if "{" in before + after or "}" in before + after:
        raise TemplateError(f"{template!r} has an unpaired brace in {text!r}")
    if wild and wild not in {"{id}", "{group}", *_ANY}:
        raise TemplateError(
            f"{template!r} has the unknown placeholder {wild}; "
            "allowed: {id}, {group}, {trust_domain} and *"
        )
    return _Segment(before=before, wild=wild, after=after)


def _short(text: str) -> str:
    return text if len(text) <= _MAX_CHARACTERS_SHOWN else text[:_MAX_CHARACTERS_SHOWN] + "…"

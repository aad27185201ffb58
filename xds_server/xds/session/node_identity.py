"""Whether a client may be the node it says it is: the names of its certificate against templates (pure).

A template says which names speak for whom: `spiffe://*/ns/*/sa/{group}` is a URI whose last segment is the
node's group, `dns:{id}.{group}.mesh` a DNS name that carries both. A placeholder or `*` stands for a part of
one segment, between two slashes of a URI or two dots of a DNS name, and is never empty. Names are taken
apart and compared as text; nothing in a node's id or group means anything.

Whatever a certificate says of a node has to hold. With a template for ids and one for groups, a certificate
that carries both kinds of names binds both, and not the one its holder would rather be judged by.
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
    "parse_rule",
    "vet",
]

DEFAULT_TEMPLATES: Final = ("spiffe://*/ns/*/sa/{group}", "dns:{id}")

_DNS: Final = "dns:"
_SPIFFE: Final = "spiffe://"
_WILD: Final = re.compile(r"\*|\{[^{}]*\}")
_SCHEME: Final = re.compile(r"[a-z][a-z0-9+.-]*://")
_ANY: Final = frozenset({"*", "{trust_domain}"})
_MOST_NAMES: Final = 5
_MOST_LETTERS: Final = 120


class TemplateError(ValueError):
    """A template makes no sense; the message says why."""


class NodeDeniedError(Exception):
    """A client is not the node it says it is; `known` tells whether its certificate speaks for any node."""

    def __init__(self, message: str, *, known: bool) -> None:
        super().__init__(message)
        self.known = known


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """The names of a certificate that was verified: its subject alternative names of two kinds."""

    uris: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()

    def __str__(self) -> str:
        names = [*self.uris, *(_DNS + name for name in self.dns)]
        shown = [_short(name) for name in names[:_MOST_NAMES]]
        more = [f"{len(names) - len(shown)} more"] if len(names) > len(shown) else []
        return ", ".join([*shown, *more]) or "neither a URI nor a DNS name"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Said:
    """What one name of a certificate says of its holder; None where it says nothing."""

    id: str | None
    group: str | None

    def fits(self, node_id: str, group: str) -> bool:
        return self.id in {None, node_id} and self.group in {None, group}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Segment:
    """One segment of a template: text, or text around one placeholder."""

    before: str
    wild: str
    after: str

    def read(self, text: str) -> str | None:
        """Return what the placeholder stands for, empty for plain text, or None if this does not fit."""
        if not self.wild:
            return "" if text == self.before else None
        if not text.startswith(self.before) or not text.endswith(self.after):
            return None
        return text[len(self.before) : len(text) - len(self.after)] or None


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityRule:
    """A template, taken apart; `parse_rule` makes one."""

    template: str
    separator: str
    segments: tuple[_Segment, ...]

    def read(self, name: str) -> dict[str, str] | None:
        """Return what `{id}` and `{group}` stand for in a name, or None if the name has another form."""
        parts = name.split(self.separator)
        if len(parts) != len(self.segments):
            return None
        found = {}
        for segment, part in zip(self.segments, parts, strict=True):
            value = segment.read(part)
            if value is None:
                return None
            found[segment.wild] = value
        return {key[1:-1]: value for key, value in found.items() if key in {"{id}", "{group}"}}

    def names(self, peer: Peer) -> tuple[str, ...]:
        """Return the names of a certificate this rule is about; one for many hosts is no node's name."""
        return tuple(name for name in peer.dns if "*" not in name) if self.separator == "." else peer.uris

    def wanted(self, node_id: str, group: str) -> str:
        """Return what a certificate of this node would have to present, for a message."""
        text = self.template
        for name, value in (("{id}", node_id), ("{group}", group)):
            if name in text and self.separator in value:
                return (
                    f"{self.template} (which {_short(value)!r} never fits: {name} has no {self.separator!r})"
                )
        # In one go, so that an id that looks like a placeholder stays what it is.
        values = {"{id}": _short(node_id), "{group}": _short(group)}
        return _WILD.sub(lambda found: values.get(found[0], found[0]), text)


def parse_rule(template: str) -> IdentityRule:
    """Take a template apart.

    Raises:
        TemplateError: It is of no known kind, names no node, or could be read in two ways.
    """
    if template.startswith(_DNS):
        separator, body = ".", template.removeprefix(_DNS)
    elif _SCHEME.match(template):
        separator, body = "/", template
    else:
        raise TemplateError(f"{template!r} is neither a URI such as spiffe://mesh/{{group}} nor dns:NAME")
    segments = tuple(_segment(template, text) for text in body.split(separator))
    wild = [segment.wild for segment in segments]
    for name in ("{id}", "{group}"):
        if wild.count(name) > 1:
            raise TemplateError(f"{template!r} has {name} twice")
    if not {"{id}", "{group}"} & set(wild):
        raise TemplateError(
            f"{template!r} has neither {{id}} nor {{group}}: it would let its holder be any node"
        )
    if "{trust_domain}" in wild and (separator == "." or wild.index("{trust_domain}") != 2):
        raise TemplateError(f"{template!r} has {{trust_domain}} where no trust domain is: it comes after ://")
    first = 2 if separator == "/" else 0
    if not all(segment.before or segment.wild for segment in segments[first:]):
        raise TemplateError(f"{template!r} has an empty part between two {separator!r}")
    return IdentityRule(template=template, separator=separator, segments=segments)


def vet(rules: Iterable[IdentityRule], peer: Peer, *, node_id: str, group: str) -> None:
    """Return if a certificate with these names may be used by this node.

    Raises:
        IdentityRefusedError: It may not.
    """
    rules = tuple(rules)
    accepted = " or ".join(rule.wanted(node_id, group) for rule in rules)
    claim = f"node {_short(node_id)!r} of group {_short(group)!r}"
    if sum(uri.startswith(_SPIFFE) for uri in peer.uris) > 1:
        raise NodeDeniedError(
            f"{claim}: the certificate presents several SPIFFE ids ({peer}), and it must have one",
            known=False,
        )
    said = tuple(_said(rules, peer))
    if not said:
        raise NodeDeniedError(
            f"{claim}: the certificate presents {peer}, which names no node here; "
            f"accepted would be {accepted}",
            known=False,
        )
    fitting = [one for one in said if one.fits(node_id, group)]
    for what, all_said, fits in (
        ("id", [one.id for one in said], [one.id for one in fitting]),
        ("group", [one.group for one in said], [one.group for one in fitting]),
    ):
        # What no name speaks of is free; what one speaks of needs a name that is right in all it says.
        if any(value is not None for value in all_said) and all(value is None for value in fits):
            raise NodeDeniedError(
                f"{claim}: the certificate presents {peer}, which is of another {what}; "
                f"accepted would be {accepted}",
                known=True,
            )


def _said(rules: Iterable[IdentityRule], peer: Peer) -> Iterator[_Said]:
    for rule in rules:
        for name in rule.names(peer):
            found = rule.read(name)
            if found is not None:
                yield _Said(id=found.get("id"), group=found.get("group"))


def _segment(template: str, text: str) -> _Segment:
    found = _WILD.findall(text)
    if len(found) > 1:
        raise TemplateError(f"{template!r} has two placeholders in {text!r}, which could be read in two ways")
    before, wild, after = text.partition(found[0]) if found else (text, "", "")
    if "{" in before + after or "}" in before + after:
        raise TemplateError(f"{template!r} has an unpaired brace in {text!r}")
    if wild and wild not in {"{id}", "{group}", *_ANY}:
        raise TemplateError(f"{template!r} has {wild}; there are {{id}}, {{group}}, {{trust_domain}} and *")
    return _Segment(before=before, wild=wild, after=after)


def _short(text: str) -> str:
    return text if len(text) <= _MOST_LETTERS else text[:_MOST_LETTERS] + "…"

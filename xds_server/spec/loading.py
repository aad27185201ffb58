"""A spec file → its routes and all of its problems.

Beside routes a file may hold deployment strategies, which its routes refer to by name.
"""

from __future__ import annotations

import difflib
import json
import re
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel

from xds_server.spec.check import meaning
from xds_server.spec.document import Loc, Place, Source, parse
from xds_server.spec.model import ModelRoute
from xds_server.spec.problems import Problem, Severity
from xds_server.spec.references import Known, collected, resolved
from xds_server.spec.shape import KINDS, Finding, shape
from xds_server.spec.strategies import DeploymentStrategy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

__all__ = ["Document", "Loaded", "check_together", "digest", "labels_of", "load", "read_as"]

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One route of a file, with the text that says it and the line where it begins.

    The text stands for itself: a strategy of the file that the route refers to is part of it.
    """

    route: ModelRoute
    text: str
    file: str
    line: int
    name_place: Place
    match_place: Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A file: its well-formed routes, and everything wrong with it in the order of its lines."""

    documents: tuple[Document, ...]
    problems: tuple[Problem, ...]

    @property
    def routes(self) -> tuple[ModelRoute, ...]:
        """The routes that could be read."""
        return tuple(document.route for document in self.documents)

    @property
    def ok(self) -> bool:
        """Whether nothing but warnings was found."""
        return all(problem.severity is Severity.WARNING for problem in self.problems)


def load(text: str, *, file: str) -> Loaded:
    """Read the documents of a file; never raises for bad input, whatever it is."""
    documents: list[Document] = []
    problems: list[Problem] = []
    sources = [s for s in parse(text.removeprefix("\ufeff")) if s.values is not None or s.faults]
    if all(_kind(source) == "DeploymentStrategy" for source in sources):
        problems.append(_problem(file, Place(1, 1), (), Finding((), "the file holds no route", _HEAD)))
    read = [(source, *_read(source)) for source in sources]
    for _, _, found in read:
        problems.extend(_problem(file, place, loc, finding) for place, loc, finding in found)
    known, clashes = collected(
        [
            Known(model if isinstance(model, DeploymentStrategy) else None, source)
            for source, model, _ in read
            if _kind(source) == "DeploymentStrategy"
        ]
    )
    problems.extend(_problem(file, source.place(f.loc), f.loc, f) for source, f in clashes)
    for source, model, _ in read:
        if not isinstance(model, ModelRoute):
            continue
        route, more, finding = resolved(model, known)
        if finding is not None:
            problems.append(_problem(file, source.place(finding.loc), finding.loc, finding))
        if route is not None:
            documents.append(_document(route, source, more, file))
    return Loaded(documents=tuple(documents), problems=_sorted(problems))


def read_as(
    text: str,
    model: type[M],
    *,
    file: str,
    needed: str,
    meaning: Callable[[dict[str, Any]], Iterable[Finding]],
) -> tuple[M | None, tuple[Problem, ...]]:
    """Read a file that is one document of another kind by the rules of specs; never raises for bad input.

    `needed` says what belongs into an empty file; `meaning` finds what is wrong beyond the shape.
    """
    sources = [s for s in parse(text.removeprefix("\ufeff")) if s.values is not None or s.faults]
    if len(sources) != 1 or not (sources[0].faults or isinstance(sources[0].values, dict)):
        said = "the file holds several documents" if len(sources) > 1 else "the file holds no mapping"
        return None, (_problem(file, Place(1, 1), (), Finding((), said, needed)),)
    (source,) = sources
    found = [(f.place, f.loc, Finding(f.loc, f.message, f.allowed)) for f in source.faults]
    read: M | None = None
    if isinstance(source.values, dict):
        read, findings = shape(source.values, model)
        more = _without_hidden(findings, iter(meaning(source.values)))
        found += [(source.place(f.loc), f.loc, f) for f in (*findings, *more)]
    return read, _sorted([_problem(file, place, loc, finding) for place, loc, finding in found])


def _document(route: ModelRoute, source: Source, more: str, file: str) -> Document:
    return Document(
        route=route,
        text=f"{source.text}---\n{more}" if more else source.text,
        file=file,
        line=source.line,
        name_place=source.place(("metadata", "name")),
        match_place=source.place(("spec", "match")),
    )


_HEAD = "a document with apiVersion: shiftplane.dev/v1alpha1 and kind: ModelRoute is needed"


def check_together(loaded: Sequence[Loaded]) -> tuple[Problem, ...]:
    """Return the conflicts between routes: equal names, and equal claims to a host and path of a group."""
    names: dict[str, Document] = {}
    claims: dict[tuple[str, str, str], Document] = {}
    problems = []
    for document in (document for one in loaded for document in one.documents):
        name = document.route.metadata.name
        if (first := names.setdefault(name, document)) is not document:
            problems.append(
                _conflict(document, ("metadata", "name"), f"route {name!r} is defined twice", first)
            )
            continue
        spec = document.route.spec
        path = f"={spec.match.path.exact}" if spec.match.path.exact else f"{spec.match.path.prefix}*"
        for host in spec.match.hosts:
            other = claims.setdefault((spec.proxies.group, host, path), document)
            if other is not document:
                said = f"{host} {path.lstrip('=')} of group {spec.proxies.group!r} belongs to two routes"
                problems.append(_conflict(document, ("spec", "match"), said, other))
    return _sorted(problems)


def digest(route: ModelRoute) -> str:
    """Return a hash of what a route means; spelling, order of keys and comments do not matter."""
    text = json.dumps(route.model_dump(mode="json"), sort_keys=True)
    return blake2b(text.encode(), digest_size=8).hexdigest()


def labels_of(text: str) -> dict[str, str]:
    """Return the labels of the route in an accepted spec."""
    for source in parse(text):
        metadata = source.values.get("metadata") if isinstance(source.values, dict) else None
        labels = metadata.get("labels") if isinstance(metadata, dict) else None
        if isinstance(labels, dict):
            return {str(key): str(value) for key, value in labels.items()}
    return {}


def _kind(source: Source) -> str:
    """Return the kind a document has, or the one that is probably meant."""
    kind = source.values.get("kind") if isinstance(source.values, dict) else None
    near = difflib.get_close_matches(kind, KINDS, n=1, cutoff=0.75) if isinstance(kind, str) else []
    return near[0] if near else "ModelRoute"


def _read(
    source: Source,
) -> tuple[ModelRoute | DeploymentStrategy | None, list[tuple[Place, Loc, Finding]]]:
    found = [(f.place, f.loc, Finding(f.loc, f.message, f.allowed)) for f in source.faults]
    if source.values is None:
        return None, found
    if not isinstance(source.values, dict):
        finding = Finding((), "the document is not a mapping", _HEAD)
        return None, [*found, (source.place(()), (), finding)]
    kind = KINDS[_kind(source)]
    model, findings = shape(source.values, kind)
    more = meaning(source.values) if kind is ModelRoute else iter(())
    together = tuple(_without_hidden(findings, more))
    found += [(source.place(f.loc), f.loc, f) for f in (*findings, *together)]
    wrong = any(not finding.warning for _, _, finding in found)
    return (None if wrong else model), found


def _without_hidden(shape_findings: Sequence[Finding], more: Iterator[Finding]) -> Iterator[Finding]:
    """Leave out what only repeats a finding at the same place."""
    said = {finding.loc for finding in shape_findings}
    return (finding for finding in more if finding.loc not in said)


def _problem(file: str, place: Place, loc: Loc, finding: Finding) -> Problem:
    return Problem(
        severity=Severity.WARNING if finding.warning else Severity.ERROR,
        file=file,
        line=place.line,
        col=place.col,
        path=_path(loc),
        message=finding.message,
        allowed=finding.allowed,
    )


def _conflict(document: Document, loc: Loc, message: str, first: Document) -> Problem:
    place = document.name_place if loc[0] == "metadata" else document.match_place
    finding = Finding(
        loc, message, f"the other is {first.route.metadata.name!r} in {first.file}:{first.line}"
    )
    return _problem(document.file, place, loc, finding)


def _path(loc: Loc) -> str:
    path = ""
    for part in loc:
        path += f"[{part}]" if isinstance(part, int) else f".{_key(part)}"
    return path.lstrip(".")


def _key(part: Any) -> str:
    text = str(part)
    return text if re.fullmatch(r"[A-Za-z0-9_-]{1,64}", text) else json.dumps(text[:64])


def _sorted(problems: list[Problem]) -> tuple[Problem, ...]:
    return tuple(sorted(dict.fromkeys(problems), key=lambda p: (p.file, p.line, p.col, p.path, p.message)))

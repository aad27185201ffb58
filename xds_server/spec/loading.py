"""Load a spec file: its routes and all of its problems.

Besides routes, a file can contain deployment strategies that its routes refer to by name.
"""

from __future__ import annotations

import difflib
import json
import re
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel

from xds_server.spec.check import check_spec
from xds_server.spec.document import Loc, Position, Source, parse
from xds_server.spec.model import ModelRoute
from xds_server.spec.problems import Problem, Severity
from xds_server.spec.references import NamedStrategy, collect_strategies, resolve_strategy
from xds_server.spec.shape import KINDS, Finding, check_shape
from xds_server.spec.strategies import DeploymentStrategy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

__all__ = ["Document", "Loaded", "check_together", "digest", "labels_of", "load", "read_as"]

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One route of a file, with its text and the number of the line at which it begins.

    The text is self-contained: it includes the DeploymentStrategy of the file that the route refers to.
    """

    route: ModelRoute
    text: str
    file: str
    line: int
    name_position: Position
    match_position: Position


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A loaded file: its valid routes, and all of its problems in line order."""

    documents: tuple[Document, ...]
    problems: tuple[Problem, ...]

    @property
    def routes(self) -> tuple[ModelRoute, ...]:
        """The valid routes."""
        return tuple(document.route for document in self.documents)

    @property
    def ok(self) -> bool:
        """Whether the file has no errors; warnings are allowed."""
        return all(problem.severity is Severity.WARNING for problem in self.problems)


def load(text: str, *, file: str) -> Loaded:
    """Load the documents of a file. Invalid input never raises; it is reported as problems."""
    documents: list[Document] = []
    problems: list[Problem] = []
    sources = [s for s in parse(text.removeprefix("\ufeff")) if s.values is not None or s.errors]
    if all(_kind(source) == "DeploymentStrategy" for source in sources):
        problems.append(_problem(file, Position(1, 1), (), Finding((), "the file contains no route", _HEAD)))
    read = [(source, *_read(source)) for source in sources]
    for _, _, findings in read:
        problems.extend(_problem(file, position, loc, finding) for position, loc, finding in findings)
    strategies, clashes = collect_strategies(
        [
            NamedStrategy(model if isinstance(model, DeploymentStrategy) else None, source)
            for source, model, _ in read
            if _kind(source) == "DeploymentStrategy"
        ]
    )
    problems.extend(_problem(file, source.position(f.loc), f.loc, f) for source, f in clashes)
    for source, model, _ in read:
        if not isinstance(model, ModelRoute):
            continue
        route, strategy_text, finding = resolve_strategy(model, strategies)
        if finding is not None:
            problems.append(_problem(file, source.position(finding.loc), finding.loc, finding))
        if route is not None:
            documents.append(_document(route, source, strategy_text, file))
    return Loaded(documents=tuple(documents), problems=_sorted(problems))


def read_as(
    text: str,
    model: type[M],
    *,
    file: str,
    expected: str,
    check: Callable[[dict[str, Any]], Iterable[Finding]],
) -> tuple[M | None, tuple[Problem, ...]]:
    """Load a file with one document of `model`, which is not a route; report invalid input as problems.

    `expected` describes a valid file, for the message about a file without exactly one mapping. `check`
    returns findings that validation by the model cannot express.
    """
    sources = [s for s in parse(text.removeprefix("\ufeff")) if s.values is not None or s.errors]
    if len(sources) != 1 or not (sources[0].errors or isinstance(sources[0].values, dict)):
        message = (
            "the file contains several documents" if len(sources) > 1 else "the file contains no mapping"
        )
        return None, (_problem(file, Position(1, 1), (), Finding((), message, expected)),)
    (source,) = sources
    located = [(e.position, e.loc, Finding(e.loc, e.message, e.allowed)) for e in source.errors]
    read: M | None = None
    if isinstance(source.values, dict):
        read, findings = check_shape(source.values, model)
        more = _without_repeated(findings, iter(check(source.values)))
        located += [(source.position(f.loc), f.loc, f) for f in (*findings, *more)]
    return read, _sorted([_problem(file, position, loc, finding) for position, loc, finding in located])


def _document(route: ModelRoute, source: Source, strategy_text: str, file: str) -> Document:
    return Document(
        route=route,
        text=f"{source.text}---\n{strategy_text}" if strategy_text else source.text,
        file=file,
        line=source.line,
        name_position=source.position(("metadata", "name")),
        match_position=source.position(("spec", "match")),
    )


_HEAD = "expected a document with apiVersion: shiftplane.dev/v1alpha1 and kind: ModelRoute"


def check_together(loaded: Sequence[Loaded]) -> tuple[Problem, ...]:
    """Return conflicts between routes: equal names, and equal host and path matches in a group."""
    names: dict[str, Document] = {}
    matches: dict[tuple[str, str, str], Document] = {}
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
            other = matches.setdefault((spec.proxies.group, host, path), document)
            if other is not document:
                shown = path.removeprefix("=")
                message = f"two routes match host {host!r} and path {shown!r} in group {spec.proxies.group!r}"
                problems.append(_conflict(document, ("spec", "match"), message, other))
    return _sorted(problems)


def digest(route: ModelRoute) -> str:
    """Return a hash of the values of a route, independent of notation, key order and comments."""
    text = json.dumps(route.model_dump(mode="json"), sort_keys=True)
    return blake2b(text.encode(), digest_size=8).hexdigest()


def labels_of(text: str) -> dict[str, str]:
    """Return the labels of the route in the text of an accepted spec."""
    for source in parse(text):
        metadata = source.values.get("metadata") if isinstance(source.values, dict) else None
        labels = metadata.get("labels") if isinstance(metadata, dict) else None
        if isinstance(labels, dict):
            return {str(key): str(value) for key, value in labels.items()}
    return {}


def _kind(source: Source) -> str:
    """Return the known kind most similar to that of the document; ModelRoute if none is similar."""
    kind = source.values.get("kind") if isinstance(source.values, dict) else None
    near = difflib.get_close_matches(kind, KINDS, n=1, cutoff=0.75) if isinstance(kind, str) else []
    return near[0] if near else "ModelRoute"


def _read(
    source: Source,
) -> tuple[ModelRoute | DeploymentStrategy | None, list[tuple[Position, Loc, Finding]]]:
    located = [(e.position, e.loc, Finding(e.loc, e.message, e.allowed)) for e in source.errors]
    if source.values is None:
        return None, located
    if not isinstance(source.values, dict):
        finding = Finding((), "the document is not a mapping", _HEAD)
        return None, [*located, (source.position(()), (), finding)]
    kind = KINDS[_kind(source)]
    model, findings = check_shape(source.values, kind)
    more = check_spec(source.values) if kind is ModelRoute else iter(())
    cross_field = tuple(_without_repeated(findings, more))
    located += [(source.position(f.loc), f.loc, f) for f in (*findings, *cross_field)]
    invalid = any(not finding.warning for _, _, finding in located)
    return (None if invalid else model), located


def _without_repeated(shape_findings: Sequence[Finding], more: Iterator[Finding]) -> Iterator[Finding]:
    """Omit findings about a location that already has a finding about its shape."""
    reported = {finding.loc for finding in shape_findings}
    return (finding for finding in more if finding.loc not in reported)


def _problem(file: str, position: Position, loc: Loc, finding: Finding) -> Problem:
    return Problem(
        severity=Severity.WARNING if finding.warning else Severity.ERROR,
        file=file,
        line=position.line,
        col=position.col,
        path=_path(loc),
        message=finding.message,
        allowed=finding.allowed,
    )


def _conflict(document: Document, loc: Loc, message: str, first: Document) -> Problem:
    position = document.name_position if loc[0] == "metadata" else document.match_position
    finding = Finding(
        loc, message, f"the other route is {first.route.metadata.name!r} in {first.file}:{first.line}"
    )
    return _problem(document.file, position, loc, finding)


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

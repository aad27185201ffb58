"""Faults that can be injected into a running simulated server, and the board that holds them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, fields
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, TypeVar

from demo.simulated.encodings import CODINGS
from demo.simulated.modes import FaultMode
from demo.simulated.wire import Api

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

__all__ = ["NO_FAULT", "Fault", "FaultBoard", "FaultError", "parse_faults"]

_E = TypeVar("_E", bound=Enum)

_LONGEST_DELAY_SECONDS: Final = 3600.0


class FaultError(ValueError):
    """An invalid fault; the message names the allowed values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A fault and the share of requests that it hits, in [0, 1].

    ``apis`` limits it to some APIs; empty means every API that accepts a POST. ``status`` is the status of
    ``error``, with a Retry-After header of ``retry_after`` seconds if that is given. ``after`` is the share
    of an answer, in [0, 1], that is sent before a fault interrupts it. ``delay`` is the time in seconds by
    which ``late_ping`` and ``late_role`` are late. ``encoding`` is that of ``encoded`` and
    ``unlabeled_encoding``.
    """

    mode: FaultMode
    rate: float = 1.0
    apis: tuple[Api, ...] = ()
    status: int = 500
    retry_after: int | None = None
    after: float = 0.5
    delay: float = 1.5
    encoding: str = "gzip"

    @classmethod
    def parse(cls, document: object) -> Fault:
        """Return the fault of a JSON document ``{"mode": ..., "rate": 0..1, "api": ..., ...}``.

        Raises:
            FaultError: The mode or a field is unknown, or a value is outside its range.
        """
        if not isinstance(document, dict):
            raise FaultError('a fault must be a JSON object {"mode": ..., "rate": 0..1}')
        allowed = ["mode", "rate", "api", *(one.name for one in fields(cls) if one.name not in _NAMED)]
        unknown = sorted(set(document) - set(allowed))
        if unknown:
            raise FaultError(f"unknown field {unknown[0]!r}; allowed: {', '.join(allowed)}")
        return cls(
            mode=_member(FaultMode, "mode", document.get("mode")),
            rate=_number(document, "rate", 1.0, 1),
            apis=_apis(document.get("api")),
            status=_whole(document, "status", 500, range(400, 600)) or 500,
            retry_after=_whole(document, "retry_after", None, range(86_401)),
            after=_number(document, "after", 0.5, 1),
            delay=_number(document, "delay", 1.5, _LONGEST_DELAY_SECONDS),
            encoding=_encoding(document.get("encoding", "gzip")),
        )

    def document(self) -> dict[str, Any]:
        """Return the JSON document that ``parse`` reads; default values except ``rate`` are omitted."""
        changed = {
            one.name: getattr(self, one.name)
            for one in fields(self)
            if one.name not in _NAMED and getattr(self, one.name) != one.default
        }
        named = {"api": [api.value for api in self.apis]} if self.apis else {}
        return {"mode": self.mode.value, "rate": self.rate} | named | changed

    def covers(self, api: Api) -> bool:
        """Return whether the fault can hit requests of an API.

        Requests for the list of models are hit only if ``apis`` names that API.
        """
        return api in self.apis if self.apis else api is not Api.MODELS


_NAMED: Final = frozenset({"mode", "rate", "apis"})
NO_FAULT: Final = Fault(mode=FaultMode.NONE)


def parse_faults(document: object) -> tuple[Fault, ...]:
    """Return the faults of one JSON object or of a list of them.

    Raises:
        FaultError: A fault is invalid, the list is empty, or the rates of one API add up to more than 1.
    """
    if not isinstance(document, list):
        return (Fault.parse(document),)
    faults = tuple(Fault.parse(item) for item in document)
    for api in Api:
        total = sum(fault.rate for fault in faults if fault.covers(api))
        if total > 1 + 1e-9:
            raise FaultError(f"the rates for {api.value} add up to {total:g}; allowed: at most 1")
    if not faults:
        raise FaultError("the list of faults is empty; allowed: at least one fault")
    return faults


class FaultBoard:
    """The active faults; requests that a fault holds wait until the faults change or the server stops."""

    def __init__(self, rng: random.Random, fault: Fault = NO_FAULT) -> None:
        self._rng = rng
        self._faults: tuple[Fault, ...] = (fault,)
        self._changed = asyncio.Event()
        self._closed = False

    def put(self, *faults: Fault) -> None:
        """Replace the active faults, and release every request that the former faults held."""
        self._faults = faults or (NO_FAULT,)
        self._release()

    def close(self) -> None:
        """Release every held request and hold none from now on, because the server is stopping."""
        self._closed = True
        self._release()

    def draw(self, api: Api) -> Fault:
        """Return the fault of the next request of an API, drawn at the rates; ``NO_FAULT`` if none."""
        active = [fault for fault in self._faults if fault.mode is not FaultMode.NONE and fault.covers(api)]
        if not active:
            return NO_FAULT
        drawn = self._rng.random()
        for fault in active:
            if drawn < fault.rate:
                return fault
            drawn -= fault.rate
        return NO_FAULT

    def document(self) -> Any:
        """Return the active fault as JSON; a list if there are several."""
        documents = [fault.document() for fault in self._faults]
        return documents[0] if len(documents) == 1 else documents

    async def wait_for_change(self) -> None:
        """Wait until the active faults change; return at once after ``close``."""
        if not self._closed:
            await self._changed.wait()

    def _release(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def _member(kind: type[_E], name: str, value: object) -> _E:
    try:
        return kind(value)
    except ValueError as error:
        allowed = ", ".join(str(known.value) for known in kind)
        raise FaultError(f"{name} {value!r}; allowed: {allowed}") from error


def _apis(value: object) -> tuple[Api, ...]:
    if value is None:
        return ()
    names: Sequence[object] = value if isinstance(value, list) else [value]
    return tuple(_member(Api, "api", name) for name in names)


def _number(document: dict[str, Any], name: str, default: float, most: float) -> float:
    value = document.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
        raise FaultError(f"{name} {value!r}; allowed: a number from 0 to {most:g}")
    return float(value)


def _whole(document: dict[str, Any], name: str, default: int | None, allowed: range) -> int | None:
    value = document.get(name, default)
    if value is not None and (type(value) is not int or value not in allowed):
        raise FaultError(f"{name} {value!r}; allowed: an integer from {allowed[0]} to {allowed[-1]}")
    return value


def _encoding(value: object) -> str:
    if not isinstance(value, str) or value not in CODINGS:
        raise FaultError(f"encoding {value!r}; allowed: {', '.join(CODINGS)}")
    return value

"""Admin API of a simulated server: inject faults, list the received requests, read the exact counts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from demo.simulated.faults import FaultBoard, FaultError, parse_faults
from demo.simulated.replies import json_reply
from demo.simulated.wire import encode

if TYPE_CHECKING:
    from aiohttp import web

    from demo.simulated.books import Books
    from demo.simulated.record import RequestLog

__all__ = ["ADMIN_PREFIX", "Admin"]

ADMIN_PREFIX: Final = "/_sim/"
_DEFAULT_LIMIT: Final = "20"


class Admin:
    """``GET|POST /_sim/faults``, ``GET|DELETE /_sim/requests`` and ``GET|DELETE /_sim/books``.

    Requests to this API are not recorded. The body of a POST is one fault, or a list of faults whose rates
    add up to at most 1 for each API.
    """

    def __init__(self, name: str, faults: FaultBoard, log: RequestLog, books: Books) -> None:
        self._name = name
        self._faults = faults
        self._log = log
        self._books = books

    async def respond(self, request: web.Request) -> web.StreamResponse:
        """Respond to one admin request; the body of a 400 names the allowed values."""
        match (request.method, request.path.removeprefix(ADMIN_PREFIX)):
            case ("GET", "faults"):
                return json_reply(encode(self._faults.document()))
            case ("POST", "faults"):
                return await self._put_fault(request)
            case ("GET", "requests"):
                return self._requests(request)
            case ("DELETE", "requests"):
                self._log.clear()
                return json_reply(encode({}))
            case ("GET", "books"):
                document = {"simulated": True, "name": self._name} | self._books.document()
                return json_reply(encode(document))
            case ("DELETE", "books"):
                self._books.clear()
                return json_reply(encode({}))
            case _:
                return json_reply(encode({"detail": "Not Found"}), status=404)

    async def _put_fault(self, request: web.Request) -> web.StreamResponse:
        try:
            self._faults.put(*parse_faults(json.loads(await request.read())))
        except (FaultError, json.JSONDecodeError, UnicodeDecodeError) as error:
            return json_reply(encode({"error": str(error)}), status=400)
        return json_reply(encode(self._faults.document()))

    def _requests(self, request: web.Request) -> web.StreamResponse:
        """List the last ``limit`` requests; each ``header`` names a header to show and to count by value."""
        limit = request.query.get("limit", _DEFAULT_LIMIT)
        if not limit.isdecimal():
            return json_reply(encode({"error": f"limit {limit!r}; allowed: an integer from 0"}), status=400)
        shown = self._log.document(only=request.query.getall("header", []), limit=int(limit))
        return json_reply(encode({"simulated": True, "name": self._name} | shown))

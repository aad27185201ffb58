"""A simulated model server: the HTTP APIs of vLLM in front of generators that need almost no CPU.

It replaces a model server in the demo and in tests: the same paths, headers, bodies, streams and errors, two
flavours of one model, configurable times to the first token and between tokens, and faults that can be
changed while it runs. Version, model list, start-up line and every response contain the word *simulated*.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import socket
import time
import uuid
from typing import TYPE_CHECKING, Final, Self

from aiohttp import web

from demo.simulated.admin import ADMIN_PREFIX, Admin
from demo.simulated.books import Books
from demo.simulated.config import VERSION, SimulatedConfig
from demo.simulated.effects import JSON, changed_body, changed_script, compressed, replacement
from demo.simulated.encodings import CODINGS, accepted
from demo.simulated.engine import Answered, Engine, parse
from demo.simulated.faults import NO_FAULT, Fault, FaultBoard, FaultError
from demo.simulated.metrics import ServerMetrics
from demo.simulated.modes import FaultMode, Traits, applies
from demo.simulated.record import Received, RequestLog
from demo.simulated.replies import HEADERS, DroppedResponse, drop, json_reply
from demo.simulated.script import Part, Script, play
from demo.simulated.wire import MODEL_PREFIX, PATHS, Api, WireError, encode

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import TracebackType

    _Handler = Callable[[web.Request, Received], Awaitable[web.StreamResponse]]

__all__ = ["SimulatedVllm"]

# Small, so that an unread upload stalls after some kilobytes and not after megabytes in the kernel's buffer.
_STALLED_RECEIVE_BUFFER: Final = 4096
_LONGEST_HEADER: Final = 65_536
_BACKLOG: Final = 1024


class SimulatedVllm:
    """A simulated server; use as ``async with SimulatedVllm(config) as server: server.url``."""

    def __init__(self, config: SimulatedConfig) -> None:
        if config.compress is not None and config.compress not in {"accept", *CODINGS}:
            raise FaultError(f"compress {config.compress!r}; allowed: accept, {', '.join(CODINGS)}")
        self.config = config
        self.log = RequestLog(config.keep_requests)
        self.faults = FaultBoard(random.Random(config.seed), config.fault)
        self._metrics = ServerMetrics(config.model)
        self._engine = Engine(config)
        self.books = Books()
        self._admin = Admin(config.name, self.faults, self.log, self.books)
        self._created = int(time.time())
        self._runner: web.AppRunner | None = None
        self._url = ""
        self._routes: Final[dict[str, dict[str, _Handler]]] = {
            **{path: {"POST": self._generate} for path in PATHS},
            "/v1/models": {"GET": self._models},
            MODEL_PREFIX: {"GET": self._models},
            "/health": {"GET": self._health},
            "/version": {"GET": self._version},
            "/metrics": {"GET": self._exposition},
        }

    @property
    def url(self) -> str:
        """``http://host:port`` or ``unix:/path``; empty before ``start``."""
        return self._url

    @property
    def ready_line(self) -> str:
        """The line that the program prints once it accepts connections at ``url=``."""
        config = self.config
        return (
            f"simulated vLLM ready name={config.name} url={self._url} model={config.model} "
            f"flavour={config.flavour.value} version={VERSION}"
        )

    async def start(self) -> None:
        """Accept connections.

        Raises:
            OSError: The server cannot listen on the address, for example because it is in use.
        """
        config = self.config
        app = web.Application(client_max_size=config.max_body)
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = runner = web.AppRunner(
            app,
            access_log=None,
            handler_cancellation=True,
            keepalive_timeout=config.keep_alive,
            shutdown_timeout=config.shutdown_timeout,
            auto_decompress=False,
            max_line_size=_LONGEST_HEADER,
            max_field_size=_LONGEST_HEADER,
        )
        await runner.setup()
        try:
            if config.uds is not None:
                await web.UnixSite(runner, config.uds, backlog=_BACKLOG).start()
                self._url = f"unix:{config.uds}"
            else:
                await web.TCPSite(runner, config.host, config.port, backlog=_BACKLOG).start()
                host, port = runner.addresses[0][:2]
                self._url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        except OSError:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop accepting, let answers in progress finish within the shutdown timeout, then close."""
        self.faults.close()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
            if self.config.uds is not None and self._url:
                self.config.uds.unlink(missing_ok=True)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        """Record a request and respond to it."""
        if request.path.startswith(ADMIN_PREFIX):
            return await self._admin.respond(request)
        received = self.log.begin(request.method, request.path, request.headers)
        route = MODEL_PREFIX if request.path.startswith(MODEL_PREFIX) else request.path
        api = _api(route)
        if api is not None:
            self.books.begin(api)
        try:
            response = await self._respond(request, received, route)
            if received.status is None and not isinstance(response, DroppedResponse):
                received.sent(response.status)
        except (asyncio.CancelledError, ConnectionError):
            received.aborted = True
            raise
        else:
            return response
        finally:
            self.log.end(received)
            if api is not None:
                self.books.end(api, received.outcome, received.status, aborted=received.aborted)
            handler = route if route in self._routes else "none"
            # As in vLLM, a request that ended before a status was sent counts as 2xx.
            self._metrics.completed(handler, request.method, received.status or 200)

    async def _respond(self, request: web.Request, received: Received, route: str) -> web.StreamResponse:
        try:
            return await self._dispatch(request, received, route)
        except WireError as error:
            return json_reply(encode(error.document(_api(route) or Api.OTHER)), status=error.status)
        except web.HTTPException as error:
            return json_reply(encode({"detail": error.reason}), status=error.status)

    async def _dispatch(self, request: web.Request, received: Received, route: str) -> web.StreamResponse:
        methods = self._routes.get(route)
        if methods is None:
            raise web.HTTPNotFound
        handler = methods.get(request.method)
        if handler is None:
            body = encode({"detail": "Method Not Allowed"})
            return json_reply(body, status=405, headers={"allow": ", ".join(methods)})
        needed = self.config.require_header
        if needed is not None and route.startswith("/v1/") and needed not in request.headers:
            raise WireError.header_missing(needed)
        return await handler(request, received)

    async def _generate(self, request: web.Request, received: Received) -> web.StreamResponse:
        config, api = self.config, PATHS[request.path]
        fault = self.faults.draw(api)
        if fault.mode is FaultMode.REFUSE_READ:
            received.fault = fault.mode
            return await self._refuse_to_read(request)
        body = await request.read()
        received.body_bytes = len(body)
        received.body_sha256 = hashlib.sha256(body).hexdigest()
        if fault.mode is FaultMode.HANG:
            return await self._hang(request, received)
        try:
            parsed = parse(api, request.headers.get("content-type", ""), body, config)
        except WireError:
            # Some faults also replace the response to a request that the server would have rejected.
            script = self._replacement(fault, api, stream=False)
            if script is None:
                raise
            return await self._send(request, received, script, fault)
        received.stream, received.model = getattr(parsed, "stream", False), config.model
        script = self._replacement(fault, api, stream=received.stream)
        if script is not None:
            return await self._send(request, received, script, fault)
        answered = self._engine.answer(
            api,
            parsed,
            fault,
            request_id=request.headers.get("x-request-id") or uuid.uuid4().hex,
            created=int(time.time()),
        )
        self._metrics.running.inc()
        try:
            response = await self._send(request, received, answered.script, answered.fault)
        finally:
            self._metrics.running.dec()
        if answered.tokens and not isinstance(response, DroppedResponse):
            self._count(answered)
        return response

    def _replacement(self, fault: Fault, api: Api, *, stream: bool) -> Script | None:
        return replacement(fault, api, stream=stream, max_model_len=self.config.max_model_len)

    def _count(self, answered: Answered) -> None:
        self._metrics.finished(
            answered.reason,
            prompt_tokens=answered.prompt_tokens,
            tokens=answered.tokens,
            first=answered.first,
            total=answered.total,
        )

    async def _send(
        self, request: web.Request, received: Received, script: Script, fault: Fault
    ) -> web.StreamResponse:
        """Send a response in the server's content encoding and under a fault of the transfer."""
        received.fault = fault.mode
        coding = self.config.compress
        if coding == "accept":
            coding = accepted(request.headers.get("accept-encoding", ""))
        script = changed_script(compressed(script, fault, coding), fault)
        return await play(request, script, hold=self.faults.wait_for_change, started=received.sent)

    async def _hang(self, request: web.Request, received: Received) -> web.StreamResponse:
        received.fault = FaultMode.HANG
        await self.faults.wait_for_change()
        return drop(request)

    async def _refuse_to_read(self, request: web.Request) -> web.StreamResponse:
        """Read no body, so that the sender's upload stalls, until the fault is changed."""
        transport = request.transport
        if isinstance(transport, asyncio.ReadTransport):
            connection = transport.get_extra_info("socket")
            if connection is not None:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _STALLED_RECEIVE_BUFFER)
            transport.pause_reading()
        await self.faults.wait_for_change()
        return drop(request)

    async def _models(self, request: web.Request, received: Received) -> web.StreamResponse:
        """Respond with the list of models, or with the one that the path names."""
        fault = self.faults.draw(Api.MODELS)
        if fault.mode in {FaultMode.HANG, FaultMode.REFUSE_READ}:
            return await self._hang(request, received)
        fault = fault if applies(fault.mode, Traits(api=Api.MODELS)) else NO_FAULT
        script = self._replacement(fault, Api.MODELS, stream=False)
        if script is None:
            card = self._card()
            document: object = {"object": "list", "data": [card]}
            if request.path.startswith(MODEL_PREFIX):
                name = request.path.removeprefix(MODEL_PREFIX)
                if name != self.config.model:
                    raise WireError.no_model(name)
                document = card
            body = changed_body(document, fault, Api.MODELS)
            script = Script(content_type=JSON, parts=(Part(data=body),))
        return await self._send(request, received, script, fault)

    def _card(self) -> dict[str, object]:
        return {
            "id": self.config.model,
            "object": "model",
            "created": self._created,
            "owned_by": "simulated",
            "root": f"simulated/{self.config.model}-{self.config.flavour.value}",
            "parent": None,
            "max_model_len": self.config.max_model_len,
            "permission": [],
        }

    async def _health(self, _request: web.Request, _received: Received) -> web.StreamResponse:
        return web.Response(headers=HEADERS)

    async def _version(self, _request: web.Request, _received: Received) -> web.StreamResponse:
        return json_reply(encode({"version": VERSION}))

    async def _exposition(self, _request: web.Request, _received: Received) -> web.StreamResponse:
        kind = "text/plain; version=0.0.4; charset=utf-8"
        return web.Response(body=self._metrics.exposition(), headers={**HEADERS, "content-type": kind})


def _api(route: str) -> Api | None:
    """Return the API of a path for the books; None for the paths that are no API."""
    if route in {"/v1/models", MODEL_PREFIX}:
        return Api.MODELS
    if route in {"/health", "/version", "/metrics"}:
        return None
    return PATHS.get(route, Api.OTHER)

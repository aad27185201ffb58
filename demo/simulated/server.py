"""A simulated vLLM server: vLLM's HTTP API in front of a text generator that needs almost no CPU.

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
from demo.simulated.config import VERSION, SimulatedConfig
from demo.simulated.engine import Engine
from demo.simulated.faults import FaultBoard, FaultMode
from demo.simulated.metrics import ServerMetrics
from demo.simulated.record import Received, RequestLog
from demo.simulated.replies import HEADERS, DroppedResponse, drop, json_reply
from demo.simulated.wire import Api, Envelope, WireError, encode, parse

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
        self.config = config
        self.log = RequestLog(config.keep_requests)
        self.faults = FaultBoard(random.Random(config.seed), config.fault)
        self._metrics = ServerMetrics(config.model)
        self._engine = Engine(config, self._metrics)
        self._admin = Admin(config.name, self.faults, self.log)
        self._created = int(time.time())
        self._runner: web.AppRunner | None = None
        self._url = ""
        self._routes: Final[dict[str, dict[str, _Handler]]] = {
            Api.CHAT.value: {"POST": self._generate},
            Api.COMPLETIONS.value: {"POST": self._generate},
            "/v1/models": {"GET": self._models},
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
            OSError: The address is in use or not an address of this machine.
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
        try:
            response = await self._respond(request, received)
        except (asyncio.CancelledError, ConnectionError):
            received.aborted = True
            raise
        else:
            received.status = None if isinstance(response, DroppedResponse) else response.status
            return response
        finally:
            self.log.end(received)
            handler = request.path if request.path in self._routes else "none"
            # A request whose client disconnected counts as 2xx, as in vLLM's own metrics.
            self._metrics.completed(handler, request.method, received.status or 200)

    async def _respond(self, request: web.Request, received: Received) -> web.StreamResponse:
        try:
            return await self._dispatch(request, received)
        except WireError as error:
            return json_reply(error.body(), status=error.status)
        except web.HTTPException as error:
            return json_reply(encode({"detail": error.reason}), status=error.status)

    async def _dispatch(self, request: web.Request, received: Received) -> web.StreamResponse:
        methods = self._routes.get(request.path)
        if methods is None:
            raise web.HTTPNotFound
        handler = methods.get(request.method)
        if handler is None:
            body = encode({"detail": "Method Not Allowed"})
            return json_reply(body, status=405, headers={"allow": ", ".join(methods)})
        needed = self.config.require_header
        if needed is not None and request.path.startswith("/v1/") and needed not in request.headers:
            raise WireError.header_missing(needed)
        return await handler(request, received)

    async def _generate(self, request: web.Request, received: Received) -> web.StreamResponse:
        mode = received.fault = self.faults.draw()
        if mode is FaultMode.REFUSE_READ:
            return await self._refuse_to_read(request)
        body = await request.read()
        received.body_bytes = len(body)
        received.body_sha256 = hashlib.sha256(body).hexdigest()
        if mode is FaultMode.HANG:
            await self.faults.wait_for_change()
            return drop(request)
        config, api = self.config, Api(request.path)
        content_type = request.headers.get("content-type", "")
        parsed = parse(api, content_type, body, model=config.model, max_model_len=config.max_model_len)
        received.stream, received.model = parsed.stream, config.model
        if mode is FaultMode.ERROR:
            raise WireError.internal()
        envelope = Envelope(
            api=api,
            request_id=request.headers.get("x-request-id") or uuid.uuid4().hex,
            created=int(time.time()),
            model=config.model,
        )
        return await self._engine.run(request, parsed, envelope, mode)

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

    async def _models(self, _request: web.Request, _received: Received) -> web.StreamResponse:
        card = {
            "id": self.config.model,
            "object": "model",
            "created": self._created,
            "owned_by": "simulated",
            "root": f"simulated/{self.config.model}-{self.config.flavour.value}",
            "parent": None,
            "max_model_len": self.config.max_model_len,
            "permission": [],
        }
        return json_reply(encode({"object": "list", "data": [card]}))

    async def _health(self, _request: web.Request, _received: Received) -> web.StreamResponse:
        return web.Response(headers=HEADERS)

    async def _version(self, _request: web.Request, _received: Received) -> web.StreamResponse:
        return json_reply(encode({"version": VERSION}))

    async def _exposition(self, _request: web.Request, _received: Received) -> web.StreamResponse:
        kind = "text/plain; version=0.0.4; charset=utf-8"
        return web.Response(body=self._metrics.exposition(), headers={**HEADERS, "content-type": kind})

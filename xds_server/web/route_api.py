"""API operations for routes and proxies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiohttp import web

from xds_server.access.identity import Role
from xds_server.engine import Action
from xds_server.view import to_json
from xds_server.web import schemas
from xds_server.web.authenticator import PRINCIPAL, to_caller
from xds_server.web.bodies import CommandBody
from xds_server.web.operations import Operation, Parameter, SuccessResponse
from xds_server.web.route_handlers import COMMAND_BODIES, MAX_LIMIT, RouteHandlers, page_by_name
from xds_server.web.schemas import page_parameters
from xds_server.web.visibility import visible_proxies

if TYPE_CHECKING:
    from collections.abc import Iterable

    from xds_server.engine import Engine

__all__ = ["proxy_operations", "route_operations"]

_COMMANDS: Final = {
    Action.PROMOTE: "Promote to the next step; with `full`, to the last weight step.",
    Action.PAUSE: "Pause the rollout: stop the timer of the current step.",
    Action.RESUME: "Resume a paused rollout with the remaining time of its step, or end a pause step without "
    "a duration.",
    Action.ABORT: "Abort: move all users back to the stable backend and stop mirroring at once.",
    Action.UNDO: "Undo: move all users back to the stable backend; with `to`, apply the spec of an earlier "
    "generation again.",
    Action.RETRY: "Restart a rollout that ended without a promotion, or give a Degraded one a new deadline.",
    Action.KILL: "Send all users to one backend at once (kill switch). Requires a reason.",
    Action.UNKILL: "End a kill, and restore the weights, the step and its timer.",
}
_YAML: Final = {"application/yaml": {"type": "string", "description": "ModelRoute documents."}}
_DRY_RUN: Final = Parameter(
    name="dryRun",
    description="Validate the spec without applying it.",
    schema={"type": "string", "enum": ["true", "false"], "default": "false"},
)
_IDEMPOTENCY_KEY: Final = Parameter(
    name="Idempotency-Key",
    description="A request that is repeated with the same key is executed once.",
    schema={"type": "string", "maxLength": 128, "pattern": "^[!-~]*$"},
    header=True,
)
_IF_MATCH: Final = Parameter(
    name="If-Match",
    description="Execute the request only if the current spec has this ETag; * matches any existing spec.",
    schema={"type": "string", "pattern": '^(\\*|"[0-9]+-[0-9a-f]{12}")$'},
    header=True,
)
_NAME_PAGE: Final = (
    Parameter(
        name="limit",
        description="Maximum number of items to return.",
        schema={"type": "integer", "minimum": 1, "maximum": MAX_LIMIT},
    ),
    Parameter(
        name="after",
        description="Return items after this name: `next` of the previous page.",
        schema={"type": "string"},
    ),
)


def route_operations(engine: Engine) -> list[Operation]:
    """Return the operations for routes."""
    handlers = RouteHandlers(engine)
    return [
        *_read_operations(handlers),
        *_spec_operations(handlers),
        *(_command_operation(handlers, action) for action in _COMMANDS),
    ]


def proxy_operations(engine: Engine) -> list[Operation]:
    """Return the operations for proxies."""

    async def list_proxies(request: web.Request) -> web.Response:
        to_caller(request, Role.VIEWER)  # Rejects requests that are not authenticated.
        visible = visible_proxies(engine, request[PRINCIPAL], request.query.get("group", ""))
        page, following = page_by_name([(view.id, to_json(view)) for view in visible], request)
        return web.json_response({"proxies": page, "next": following})

    return [
        Operation(
            method="GET",
            path="/v1/proxies",
            name="listProxies",
            summary="List connected proxies and their sync status.",
            role=Role.VIEWER,
            handler=list_proxies,
            parameters=(
                Parameter(name="group", description="Only proxies of this group.", schema={"type": "string"}),
                *_NAME_PAGE,
            ),
            response=SuccessResponse(description="Connected proxies.", schema=schemas.PROXY_PAGE),
        )
    ]


def _read_operations(handlers: RouteHandlers) -> Iterable[Operation]:
    yield Operation(
        method="GET",
        path="/v1/routes",
        name="listRoutes",
        summary="List routes.",
        role=Role.VIEWER,
        handler=handlers.list_routes,
        parameters=_NAME_PAGE,
        response=SuccessResponse(description="Routes, sorted by name.", schema=schemas.ROUTE_PAGE),
    )
    yield Operation(
        method="GET",
        path="/v1/routes/{name}",
        name="getRoute",
        summary="Return the state of a route.",
        role=Role.VIEWER,
        handler=handlers.get_route,
        response=SuccessResponse(description="The route.", schema=schemas.ROUTE),
        error_statuses=(404,),
    )
    yield Operation(
        method="GET",
        path="/v1/routes/{name}/spec",
        name="getSpec",
        summary="Return the accepted spec, and its tag as the ETag.",
        role=Role.VIEWER,
        handler=handlers.get_spec,
        response=SuccessResponse(description="The spec.", content_type="application/yaml", headers=("ETag",)),
        error_statuses=(404,),
    )
    yield Operation(
        method="GET",
        path="/v1/routes/{name}/events",
        name="listEvents",
        summary="List the events of a route; each page is sorted oldest first, and the first page has the "
        "newest events.",
        role=Role.VIEWER,
        handler=handlers.list_events,
        parameters=page_parameters(MAX_LIMIT),
        response=SuccessResponse(description="A page of events.", schema=schemas.EVENT_PAGE),
        error_statuses=(404,),
    )
    yield Operation(
        method="GET",
        path="/v1/routes/{name}/blocks",
        name="listBlocks",
        summary="Return the counts of each interval of the analysis, oldest first, each with the number of "
        "its rollout run; at most the newest 10,000.",
        role=Role.VIEWER,
        handler=handlers.list_blocks,
        response=SuccessResponse(
            description="One JSON object per line.", content_type="application/x-ndjson"
        ),
        error_statuses=(404,),
    )
    yield Operation(
        method="GET",
        path="/v1/routes/{name}/costs",
        name="listCosts",
        summary="Return the usage and cost of each backend by day.",
        role=Role.VIEWER,
        handler=handlers.list_costs,
        response=SuccessResponse(description="Days, oldest first.", schema=schemas.COST_PAGE),
        error_statuses=(404,),
    )


def _spec_operations(handlers: RouteHandlers) -> Iterable[Operation]:
    yield Operation(
        method="POST",
        path="/v1/routes",
        name="apply",
        summary="Apply the specs of a file: all of them or none.",
        role=Role.OPERATOR,
        handler=handlers.apply,
        parameters=(_DRY_RUN, _IDEMPOTENCY_KEY),
        body=_YAML,
        response=SuccessResponse(
            description="The action for each route, and warnings.", schema=schemas.APPLIED
        ),
        error_statuses=(422,),
    )
    yield Operation(
        method="PUT",
        path="/v1/routes/{name}/spec",
        name="putSpec",
        summary="Apply the spec of one route, if its current spec matches If-Match.",
        role=Role.OPERATOR,
        handler=handlers.put_spec,
        parameters=(_DRY_RUN, _IDEMPOTENCY_KEY, _IF_MATCH),
        body=_YAML,
        response=SuccessResponse(
            description="Whether the route was created, updated or unchanged, and warnings.",
            schema=schemas.APPLIED,
            headers=("ETag",),
        ),
        error_statuses=(409, 412, 422),
    )
    yield Operation(
        method="DELETE",
        path="/v1/routes/{name}",
        name="deleteRoute",
        summary="Delete a route; proxies then answer its requests with 404, unless another route matches "
        "them.",
        role=Role.ADMIN,
        handler=handlers.delete,
        parameters=(_IF_MATCH,),
        response=SuccessResponse(description="The route was deleted.", schema=schemas.DELETED),
        error_statuses=(404, 412),
    )


def _command_operation(handlers: RouteHandlers, action: Action) -> Operation:
    async def handler(request: web.Request) -> web.Response:
        return await handlers.command(request, action)

    return Operation(
        method="POST",
        path=f"/v1/routes/{{name}}/{action.value}",
        name=action.value,
        summary=_COMMANDS[action],
        role=Role.OPERATOR,
        handler=handler,
        parameters=(_IDEMPOTENCY_KEY,),
        body={"application/json": COMMAND_BODIES.get(action, CommandBody).model_json_schema()},
        response=SuccessResponse(
            description="The state of the route after the command.", schema=schemas.ROUTE
        ),
        error_statuses=(404, 409, 422),
    )

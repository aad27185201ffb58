"""Filter routes, proxies and audit entries by what a principal may view, for the API and the pages."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from xds_server.access.identity import Principal, Role

if TYPE_CHECKING:
    from xds_server.engine import Engine
    from xds_server.view import ProxyView, RouteView

__all__ = ["audited_routes", "visible_proxies", "visible_routes"]


def visible_routes(engine: Engine, principal: Principal) -> list[RouteView]:
    """Return the routes that a principal may view, by name."""
    return engine.queries.views(partial(principal.may, Role.VIEWER))


def visible_proxies(engine: Engine, principal: Principal, group: str = "") -> tuple[ProxyView, ...]:
    """Return the connected proxies that a principal may view; with `group`, only the proxies of that group.

    A viewer of all routes may view every proxy. Other principals may view the proxies of the groups that
    serve at least one route they may view.
    """
    found = engine.queries.proxies()
    if not principal.may_everywhere(Role.VIEWER):
        groups = engine.queries.groups(partial(principal.may, Role.VIEWER))
        found = tuple(view for view in found if view.group in groups)
    return tuple(view for view in found if group in {"", view.group})


def audited_routes(engine: Engine, principal: Principal) -> list[str] | None:
    """Return the routes whose audit entries a principal may view.

    None means all entries, including those of deleted routes and those that concern no route.
    """
    return (
        None
        if principal.may_everywhere(Role.VIEWER)
        else engine.queries.names(partial(principal.may, Role.VIEWER))
    )

"""What of all there is somebody may see, for API and pages alike."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from xds_server.access.identity import Principal, Role

if TYPE_CHECKING:
    from xds_server.engine import Engine
    from xds_server.view import ProxyView, RouteView

__all__ = ["audited_routes", "visible_proxies", "visible_routes"]


def visible_routes(engine: Engine, who: Principal) -> list[RouteView]:
    """Return how their routes stand, by name."""
    return engine.queries.views(partial(who.may, Role.VIEWER))


def visible_proxies(engine: Engine, who: Principal, group: str = "") -> tuple[ProxyView, ...]:
    """Return the connected proxies, of one group where that is asked; of some routes only their groups'."""
    found = engine.queries.proxies()
    if not who.may_everywhere(Role.VIEWER):
        groups = engine.queries.groups(partial(who.may, Role.VIEWER))
        found = tuple(view for view in found if view.group in groups)
    return tuple(view for view in found if group in {"", view.group})


def audited_routes(engine: Engine, who: Principal) -> list[str] | None:
    """Return whose entries of the audit they see; None for all, those of no route and of deleted ones too."""
    return None if who.may_everywhere(Role.VIEWER) else engine.queries.names(partial(who.may, Role.VIEWER))

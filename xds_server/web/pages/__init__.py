"""Web pages, rendered on the server, usable without JavaScript and updated by server-sent events."""

from xds_server.web.pages.login import login_routes
from xds_server.web.pages.routes import page_routes

__all__ = ["login_routes", "page_routes"]

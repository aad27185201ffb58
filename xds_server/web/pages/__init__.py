"""The pages: made on the server, readable without scripts, kept as they are now by one stream of events."""

from xds_server.web.pages.login import login_routes
from xds_server.web.pages.routes import page_routes

__all__ = ["login_routes", "page_routes"]

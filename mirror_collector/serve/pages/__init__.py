"""The HTML pages, rendered on the server without scripts."""

from __future__ import annotations

from mirror_collector.serve.pages.routes import page_routes

__all__ = ["page_routes"]

"""The collector's pages, made on the server and readable without scripts."""

from __future__ import annotations

from mirror_collector.serve.pages.routes import page_routes

__all__ = ["page_routes"]

"""Token issuers of the IR → Envoy's JWT filter: verified claims become headers (pure)."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from envoy_data_plane.envoy.config.core.v3 import DataSource, HttpUri
from envoy_data_plane.envoy.config.route.v3 import RouteMatch
from envoy_data_plane.envoy.extensions.filters.http.jwt_authn.v3 import (
    JwksAsyncFetch,
    JwtAuthentication,
    JwtClaimToHeader,
    JwtProvider,
    JwtRequirement,
    JwtRequirementAndList,
    JwtRequirementOrList,
    RemoteJwks,
    RequirementRule,
)
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpFilter
from envoy_data_plane.google.protobuf import Empty

from xds_server.translate.encode import pack

if TYPE_CHECKING:
    from xds_server import ir

__all__ = ["token_filter"]

_FETCH_TIMEOUT: Final = timedelta(seconds=5)
_KEEP_KEYS: Final = timedelta(minutes=10)


def token_filter(issuers: tuple[ir.TokenIssuer, ...]) -> HttpFilter:
    """Return the JWT filter; every issuer is optional, so that the filter never rejects a request."""
    config = JwtAuthentication(
        providers={issuer.name: _provider(issuer) for issuer in issuers},
        rules=[RequirementRule(match=RouteMatch(prefix="/"), requires=_all(issuers))],
    )
    return HttpFilter(name="envoy.filters.http.jwt_authn", typed_config=pack(config))


def _all(issuers: tuple[ir.TokenIssuer, ...]) -> JwtRequirement:
    each = [_either(issuer) for issuer in issuers]
    if len(each) == 1:
        return each[0]
    return JwtRequirement(requires_all=JwtRequirementAndList(requirements=each))


def _either(issuer: ir.TokenIssuer) -> JwtRequirement:
    return JwtRequirement(
        requires_any=JwtRequirementOrList(
            requirements=[
                JwtRequirement(provider_name=issuer.name),
                JwtRequirement(allow_missing_or_failed=Empty()),
            ]
        )
    )


def _provider(issuer: ir.TokenIssuer) -> JwtProvider:
    provider = JwtProvider(
        issuer=issuer.issuer,
        audiences=list(issuer.audiences),
        forward=True,
        claim_to_headers=[
            JwtClaimToHeader(header_name=header, claim_name=claim) for header, claim in issuer.claims
        ],
        # The claims select the route, so it is selected again once they are present.
        clear_route_cache=True,
    )
    if issuer.keys is not None:
        provider.local_jwks = DataSource(inline_string=issuer.keys)
    else:
        provider.remote_jwks = RemoteJwks(
            http_uri=HttpUri(
                uri=issuer.keys_url or "", cluster=issuer.keys_cluster or "", timeout=_FETCH_TIMEOUT
            ),
            cache_duration=_KEEP_KEYS,
            # A listener must not wait for a third-party server.
            async_fetch=JwksAsyncFetch(fast_listener=True),
        )
    return provider

"""Checks of `jwtProviders`, claims and the kill switch. No message contains a key."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from xds_server.spec.check.values import at, pairs, unknown
from xds_server.spec.shape import Finding
from xds_server.spec.targeting import Jwks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xds_server.spec.document import Loc

__all__ = ["CHECKS"]

_CA_FILE: Final = Jwks.model_fields["ca_file"].default
_EXPECTED: Final = 'expected a JSON key set: {"keys": [{"kty": …}]}'


def _claims(spec: Any) -> Iterator[Finding]:
    listed = spec.get("jwtProviders")
    if listed is not None and not isinstance(listed, dict):
        return
    providers = list(pairs(listed))
    for name, source in pairs(spec.get("attributes")).items():
        loc: Loc = ("spec", "attributes", name)
        provider = at(source, "provider")
        if isinstance(source, dict) and provider is not None and source.get("claim") is None:
            yield Finding(
                (*loc, "provider"),
                "has no effect without a claim",
                "remove provider, or use a claim as the source",
            )
        elif at(source, "claim") is None:
            continue
        elif isinstance(provider, str) and provider not in providers:
            message, _ = unknown("provider", provider, providers)
            yield Finding((*loc, "provider"), message, _providers(providers))
        elif provider is None and len(providers) != 1:
            message = (
                "requires the field provider, because spec.jwtProviders has several entries"
                if providers
                else "requires an entry in spec.jwtProviders"
            )
            yield Finding((*loc, "claim"), message, _providers(providers))


def _providers(names: list[str]) -> str:
    if names:
        return f"defined providers: {', '.join(names)}"
    return "add spec.jwtProviders: {NAME: {issuer: …, jwks: {url: …}}}"


def _keys(spec: Any) -> Iterator[Finding]:
    for name, provider in pairs(spec.get("jwtProviders")).items():
        jwks, loc = at(provider, "jwks"), ("spec", "jwtProviders", name, "jwks")
        if not isinstance(jwks, dict):
            continue
        given = [key for key in ("inline", "url") if jwks.get(key) is not None]
        if len(given) != 1 and not set(jwks) - {"inline", "url", "caFile"}:
            message = "has both inline and url" if given else "has neither inline nor url"
            yield Finding(loc, message, "set exactly one of inline and url")
        if isinstance(jwks.get("inline"), str):
            yield from _inline((*loc, "inline"), jwks["inline"])
        url = jwks.get("url")
        plain = isinstance(url, str) and url.startswith("http://")
        if plain:
            message = "is not an https URL, so an attacker on the network path could replace the keys"
            yield Finding((*loc, "url"), message, "use an https URL", warning=True)
        if jwks.get("caFile") not in (None, _CA_FILE) and (plain or url is None):
            yield Finding(
                (*loc, "caFile"), "has no effect without an https URL", "remove it, or use an https URL"
            )


def _inline(loc: Loc, text: str) -> Iterator[Finding]:
    try:
        keys = at(json.loads(text), "keys")
    except (ValueError, RecursionError):
        yield Finding(loc, "cannot be parsed as JSON", _EXPECTED)
        return
    if not isinstance(keys, list) or not keys:
        yield Finding(loc, "contains no keys", _EXPECTED)
        return
    for number, key in enumerate(keys):
        if not isinstance(key, dict) or not isinstance(key.get("kty"), str):
            yield Finding(loc, f"keys[{number}] has no kty", _EXPECTED)
        elif "d" in key:
            message = f"keys[{number}] is a private key, so every reader of this file can sign tokens"
            yield Finding(
                loc, message, "use only the public key, and replace the key pair: it is compromised"
            )


def _kill_switch(spec: Any) -> Iterator[Finding]:
    switch = spec.get("killSwitch")
    if at(switch, "enabled") is True and at(switch, "reason") is None:
        yield Finding(("spec", "killSwitch"), "is on without a reason", "add killSwitch.reason")


CHECKS: Final = (_claims, _keys, _kill_switch)

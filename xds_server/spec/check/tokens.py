"""Where tokens come from: providers and the keys that sign for them. No message repeats a key."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from xds_server.spec.check.values import at, near, one_of, pairs
from xds_server.spec.shape import Finding
from xds_server.spec.targeting import Jwks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xds_server.spec.document import Loc

__all__ = ["CHECKS"]

_CA_FILE: Final = Jwks.model_fields["ca_file"].default
_SHAPE: Final = 'the JSON of a key set is needed: {"keys": [{"kty": …}]}'


def _claims(spec: Any) -> Iterator[Finding]:
    listed = spec.get("jwtProviders")
    if listed is not None and not isinstance(listed, dict):
        return
    providers = list(pairs(listed))
    for name, source in pairs(spec.get("attributes")).items():
        loc: Loc = ("spec", "attributes", name)
        provider = at(source, "provider")
        if isinstance(source, dict) and provider is not None and source.get("claim") is None:
            yield Finding((*loc, "provider"), "belongs to a claim", "leave it away, or name a claim")
        elif at(source, "claim") is None:
            continue
        elif isinstance(provider, str) and provider not in providers:
            said = f"there is no provider {provider!r}{near(provider, providers)}"
            yield Finding((*loc, "provider"), said, _providers(providers))
        elif provider is None and len(providers) != 1:
            said = (
                "names no provider, and there are several" if providers else "there is no provider of tokens"
            )
            yield Finding((*loc, "claim"), said, _providers(providers))


def _providers(names: list[str]) -> str:
    return one_of(names) if names else "add spec.jwtProviders: {NAME: {issuer: …, jwks: {url: …}}}"


def _keys(spec: Any) -> Iterator[Finding]:
    for name, provider in pairs(spec.get("jwtProviders")).items():
        jwks, loc = at(provider, "jwks"), ("spec", "jwtProviders", name, "jwks")
        if not isinstance(jwks, dict):
            continue
        given = [key for key in ("inline", "url") if jwks.get(key) is not None]
        if len(given) != 1 and not set(jwks) - {"inline", "url", "caFile"}:
            said = "has both inline and url" if given else "has neither inline nor url"
            yield Finding(loc, said, "exactly one of inline and url is needed")
        if isinstance(jwks.get("inline"), str):
            yield from _inline((*loc, "inline"), jwks["inline"])
        url = jwks.get("url")
        plain = isinstance(url, str) and url.startswith("http://")
        if plain:
            said = "is not https: whoever stands between could put in keys of their own"
            yield Finding((*loc, "url"), said, "", warning=True)
        if jwks.get("caFile") not in (None, _CA_FILE) and (plain or url is None):
            yield Finding((*loc, "caFile"), "belongs to an https URL", "leave it away")


def _inline(loc: Loc, text: str) -> Iterator[Finding]:
    try:
        keys = at(json.loads(text), "keys")
    except (ValueError, RecursionError):
        yield Finding(loc, "is not JSON", _SHAPE)
        return
    if not isinstance(keys, list) or not keys:
        yield Finding(loc, "holds no keys", _SHAPE)
        return
    for number, key in enumerate(keys):
        if not isinstance(key, dict) or not isinstance(key.get("kty"), str):
            yield Finding(loc, f"keys[{number}] has no kty", _SHAPE)
        elif "d" in key:
            said = f"keys[{number}] is a private key: whoever reads this file could sign tokens"
            yield Finding(loc, said, "give the public part alone, and replace that key: it is known now")


def _kill_switch(spec: Any) -> Iterator[Finding]:
    switch = spec.get("killSwitch")
    if at(switch, "enabled") is True and at(switch, "reason") is None:
        yield Finding(("spec", "killSwitch"), "is on without a reason", "say why: killSwitch.reason")


CHECKS: Final = (_claims, _keys, _kill_switch)

"""Who somebody is and what that lets them do: roles by route labels, tokens, sessions, failures (pure)."""

from xds_server.access.identity.claims import ClaimRule, granted, said
from xds_server.access.identity.failures import FailureLimiter, address_prefix
from xds_server.access.identity.roles import (
    EVERYTHING,
    Grant,
    Principal,
    Role,
    SelectorError,
    parse_selector,
    selector_text,
)
from xds_server.access.identity.secrets import IssuedSecret, digest, mint, token_id
from xds_server.access.identity.sessions import (
    LIVES,
    NAMES,
    Session,
    Token,
    grants_from_json,
    grants_to_json,
    new_token,
    token_to_json,
)

__all__ = [
    "EVERYTHING",
    "LIVES",
    "NAMES",
    "ClaimRule",
    "FailureLimiter",
    "Grant",
    "IssuedSecret",
    "Principal",
    "Role",
    "SelectorError",
    "Session",
    "Token",
    "address_prefix",
    "digest",
    "granted",
    "grants_from_json",
    "grants_to_json",
    "mint",
    "new_token",
    "parse_selector",
    "said",
    "selector_text",
    "token_id",
    "token_to_json",
]

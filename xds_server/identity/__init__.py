"""Who somebody is and what that lets them do: roles by route labels, tokens, sessions, failures (pure)."""

from xds_server.identity.claims import ClaimRule, granted, said
from xds_server.identity.failures import Failures, neighbourhood
from xds_server.identity.roles import (
    EVERYTHING,
    Grant,
    Principal,
    Role,
    SelectorError,
    parse_selector,
    selector_text,
)
from xds_server.identity.secrets import Minted, digest, mint, token_id
from xds_server.identity.sessions import (
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
    "Failures",
    "Grant",
    "Minted",
    "Principal",
    "Role",
    "SelectorError",
    "Session",
    "Token",
    "digest",
    "granted",
    "grants_from_json",
    "grants_to_json",
    "mint",
    "neighbourhood",
    "new_token",
    "parse_selector",
    "said",
    "selector_text",
    "token_id",
    "token_to_json",
]

"""Identity and authorization: roles by route labels, tokens, sessions, failure limits (pure)."""

from xds_server.access.identity.claims import ClaimRule, display_name, grants_from_claims
from xds_server.access.identity.failures import FailureLimiter, address_prefix
from xds_server.access.identity.roles import (
    FULL_ACCESS,
    Grant,
    Principal,
    Role,
    SelectorError,
    parse_selector,
    selector_text,
)
from xds_server.access.identity.secrets import IssuedSecret, digest, issue_secret, token_id
from xds_server.access.identity.sessions import (
    TOKEN_LIFETIME_SECONDS,
    TOKEN_NAME_PATTERN,
    Session,
    Token,
    grants_from_json,
    grants_to_json,
    new_token,
    token_to_json,
)

__all__ = [
    "FULL_ACCESS",
    "TOKEN_LIFETIME_SECONDS",
    "TOKEN_NAME_PATTERN",
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
    "display_name",
    "grants_from_claims",
    "grants_from_json",
    "grants_to_json",
    "issue_secret",
    "new_token",
    "parse_selector",
    "selector_text",
    "token_id",
    "token_to_json",
]

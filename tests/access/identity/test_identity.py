"""Roles, label selectors, tokens, failure limits and claims."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xds_server.access.identity import (
    FULL_ACCESS,
    ClaimRule,
    FailureLimiter,
    Grant,
    Principal,
    Role,
    SelectorError,
    address_prefix,
    digest,
    display_name,
    grants_from_claims,
    grants_from_json,
    grants_to_json,
    issue_secret,
    parse_selector,
    selector_text,
    token_id,
)

LABELS = st.dictionaries(st.sampled_from(["team", "tier", "env"]), st.sampled_from(["a", "b"]))
GRANTS = st.builds(
    lambda role, labels: Grant(role=role, labels=tuple(sorted(labels.items()))), st.sampled_from(Role), LABELS
)


@given(st.lists(GRANTS, max_size=3), st.sampled_from(Role), LABELS)
def test_a_principal_may_do_exactly_what_its_grants_allow(
    grants: list[Grant], role: Role, labels: dict[str, str]
) -> None:
    principal = Principal(name="ada", via="test", grants=tuple(grants))
    allowed = any(grant.role >= role and dict(grant.labels).items() <= labels.items() for grant in grants)
    assert principal.may(role, labels) is allowed
    assert grants_from_json(grants_to_json(grants)) == tuple(grants)
    if principal.may_everywhere(role):
        assert principal.may(role, labels)


@given(st.sampled_from(Role), LABELS)
def test_full_access_allows_everything_and_no_grants_allow_nothing(
    role: Role, labels: dict[str, str]
) -> None:
    assert Principal(name="root", via="test", grants=(FULL_ACCESS,)).may(role, labels)
    assert not Principal(name="guest", via="test").may(role, labels)


@given(LABELS)
def test_a_selector_survives_a_round_trip(labels: dict[str, str]) -> None:
    pairs = tuple(sorted(labels.items()))
    assert parse_selector(selector_text(pairs)) == pairs


@pytest.mark.parametrize("text", [",", " , ", "team", "team=a=b", "team=", "=a", "team=a,team=b", "te am=a"])
def test_invalid_selectors_are_rejected(text: str) -> None:
    with pytest.raises(SelectorError, match="not a label selector; allowed"):
        parse_selector(text)


@given(st.binary(min_size=38, max_size=38))
def test_a_token_reveals_its_id_and_its_repr_no_secret(randomness: bytes) -> None:
    secret = issue_secret(randomness)
    assert token_id(secret.text) == secret.id
    assert digest(secret.text) == secret.digest
    assert secret.text not in repr(secret)
    assert token_id(secret.text + "x") is None


def test_failures_beyond_the_burst_delay_the_next_attempt() -> None:
    failures, now = FailureLimiter(burst=3, seconds_each=10.0), 100.0
    for _ in range(3):
        assert failures.retry_after("a", now) == 0
        failures.record_failure("a", now)
    assert failures.retry_after("a", now) == 10.0
    assert failures.retry_after("a", now + 9.0) == 1.0
    assert failures.retry_after("a", now + 10.0) == 0
    assert failures.retry_after("b", now) == 0


def test_the_number_of_tracked_keys_is_bounded() -> None:
    failures = FailureLimiter(burst=1, capacity=10)
    for number in range(100):
        failures.record_failure(str(number), 0.0)
    assert failures.retry_after("0", 0.0) == 0
    assert failures.retry_after("99", 0.0) > 0


@pytest.mark.parametrize(
    ("verified", "accepted"), [(True, True), (None, True), (False, False), ("false", False)]
)
def test_an_unverified_email_address_is_ignored(verified: object, *, accepted: bool) -> None:
    claims: dict[str, object] = {"sub": "u-1", "email": "ada@example.com"}
    if verified is not None:
        claims["email_verified"] = verified
    rule = ClaimRule(claim="email", value="ada@example.com", grant=FULL_ACCESS)
    assert grants_from_claims(claims, [rule]) == ((FULL_ACCESS,) if accepted else ())
    assert display_name(claims, "email") == ("ada@example.com" if accepted else "u-1")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("", "@", False),
    ],
)
def test_addresses_in_the_same_ipv6_prefix_count_as_one(one: str, other: str, *, same: bool) -> None:
    assert (address_prefix(one) == address_prefix(other)) is same

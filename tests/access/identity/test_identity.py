"""Roles, selectors, secrets and failures."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xds_server.access.identity import (
    EVERYTHING,
    ClaimRule,
    FailureLimiter,
    Grant,
    Principal,
    Role,
    SelectorError,
    address_prefix,
    digest,
    granted,
    grants_from_json,
    grants_to_json,
    mint,
    parse_selector,
    said,
    selector_text,
    token_id,
)

LABELS = st.dictionaries(st.sampled_from(["team", "tier", "env"]), st.sampled_from(["a", "b"]))
GRANTS = st.builds(
    lambda role, labels: Grant(role=role, labels=tuple(sorted(labels.items()))), st.sampled_from(Role), LABELS
)


@given(st.lists(GRANTS, max_size=3), st.sampled_from(Role), LABELS)
def test_a_grant_allows_what_it_says_and_no_more(
    grants: list[Grant], role: Role, labels: dict[str, str]
) -> None:
    somebody = Principal(name="ada", via="test", grants=tuple(grants))
    allowed = any(g.role >= role and dict(g.labels).items() <= labels.items() for g in grants)
    assert somebody.may(role, labels) is allowed
    assert grants_from_json(grants_to_json(grants)) == tuple(grants)
    if somebody.may_everywhere(role):
        assert somebody.may(role, labels)


@given(st.sampled_from(Role), LABELS)
def test_an_admin_may_everything_and_nobody_nothing(role: Role, labels: dict[str, str]) -> None:
    assert Principal(name="root", via="test", grants=(EVERYTHING,)).may(role, labels)
    assert not Principal(name="nobody", via="test").may(role, labels)


@given(LABELS)
def test_selectors_read_what_they_write(labels: dict[str, str]) -> None:
    pairs = tuple(sorted(labels.items()))
    assert parse_selector(selector_text(pairs)) == pairs


@pytest.mark.parametrize("text", [",", " , ", "team", "team=a=b", "team=", "=a", "team=a,team=b", "te am=a"])
def test_other_selectors_are_refused(text: str) -> None:
    with pytest.raises(SelectorError, match="are allowed"):
        parse_selector(text)


@given(st.binary(min_size=38, max_size=38))
def test_secrets_say_which_they_are_and_nothing_else(randomness: bytes) -> None:
    made = mint(randomness)
    assert token_id(made.text) == made.id
    assert digest(made.text) == made.digest
    assert made.text not in repr(made)
    assert token_id(made.text + "x") is None


def test_failures_are_free_up_to_a_burst_and_then_cost_time() -> None:
    failures, now = FailureLimiter(burst=3, seconds_each=10.0), 100.0
    for _ in range(3):
        assert failures.wait("a", now) == 0
        failures.note("a", now)
    assert failures.wait("a", now) == 10.0
    assert failures.wait("a", now + 9.0) == 1.0
    assert failures.wait("a", now + 10.0) == 0
    assert failures.wait("b", now) == 0


def test_the_memory_of_failures_is_bounded() -> None:
    failures = FailureLimiter(burst=1, most=10)
    for number in range(100):
        failures.note(str(number), 0.0)
    assert failures.wait("0", 0.0) == 0
    assert failures.wait("99", 0.0) > 0


@pytest.mark.parametrize(
    ("verified", "believed"), [(True, True), (None, True), (False, False), ("false", False)]
)
def test_an_address_that_the_provider_did_not_verify_is_nobodys(verified: object, *, believed: bool) -> None:
    claims: dict[str, object] = {"sub": "u-1", "email": "ada@example.com"}
    if verified is not None:
        claims["email_verified"] = verified
    rule = ClaimRule(claim="email", value="ada@example.com", grant=EVERYTHING)
    assert granted(claims, [rule]) == ((EVERYTHING,) if believed else ())
    assert said(claims, "email") == ("ada@example.com" if believed else "u-1")


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
def test_all_addresses_that_one_host_can_have_count_as_one(one: str, other: str, *, same: bool) -> None:
    assert (address_prefix(one) == address_prefix(other)) is same

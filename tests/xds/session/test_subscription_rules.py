"""What the names of a request subscribe to, in both flavors of the protocol, one request after the other."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xds_server.xds.session.subscription import Change, Subscription


def change(added: str = "", removed: str = "", *, widened: bool = False) -> Change:
    return Change(added=frozenset(added), removed=frozenset(removed), widened=widened)


def stands(subscription: Subscription) -> tuple[bool, str]:
    return subscription.wildcard, "".join(sorted(subscription.names))


NOTHING = change()

# Each request is (names, the change, wildcard afterwards, names afterwards).
FULL_LISTS = {
    "nothing-means-all": (True, [("", change(widened=True), True, ""), ("", NOTHING, True, "")]),
    "nothing-means-nothing": (False, [("", NOTHING, False, ""), ("", NOTHING, False, "")]),
    "names": (
        True,
        [
            ("ab", change("ab"), False, "ab"),
            ("ba", NOTHING, False, "ab"),
            ("bc", change("c", "a"), False, "bc"),
            ("", change("", "bc"), False, ""),
            ("", NOTHING, False, ""),
            ("a", change("a"), False, "a"),
        ],
    ),
    "from-all-to-names": (
        True,
        [
            ("", change(widened=True), True, ""),
            ("a", change("a"), False, "a"),
            ("", change("", "a"), False, ""),
        ],
    ),
    "star": (
        False,
        [
            ("*a", change("a", widened=True), True, "a"),
            ("*a", NOTHING, True, "a"),
            ("*", change("", "a"), True, ""),
            ("a", change("a"), False, "a"),
            ("*a", change(widened=True), True, "a"),
            ("a", NOTHING, False, "a"),
        ],
    ),
}


@pytest.mark.parametrize(("wildcard_type", "requests"), FULL_LISTS.values(), ids=FULL_LISTS.keys())
def test_full_lists(wildcard_type: bool, requests: list[tuple[str, Change, bool, str]]) -> None:
    subscription = Subscription(wildcard_type=wildcard_type)
    for names, changed, wildcard, left in requests:
        assert subscription.replace(names) == changed, names
        assert stands(subscription) == (wildcard, left), names


# Each request is (names to follow, names to leave, the change, wildcard afterwards, names afterwards).
CHANGES = {
    "nothing-means-all": (
        True,
        [
            ("", "", change(widened=True), True, ""),
            ("", "", NOTHING, True, ""),
            ("a", "", change("a"), True, "a"),
            ("", "a", change("", "a"), True, ""),
            ("", "*", NOTHING, False, ""),
            ("*", "", change(widened=True), True, ""),
        ],
    ),
    "nothing-means-nothing": (False, [("", "", NOTHING, False, ""), ("a", "", change("a"), False, "a")]),
    "names": (
        True,
        [
            ("ab", "", change("ab"), False, "ab"),
            ("", "", NOTHING, False, "ab"),
            ("a", "", change("a"), False, "ab"),
            ("c", "a", change("c", "a"), False, "bc"),
            ("", "ax", NOTHING, False, "bc"),
            ("", "bc", change("", "bc"), False, ""),
            ("", "", NOTHING, False, ""),
        ],
    ),
    "star": (
        False,
        [
            ("*a", "", change("a", widened=True), True, "a"),
            ("*", "", NOTHING, True, "a"),
            ("", "*", NOTHING, False, "a"),
            ("*", "a", change("", "a", widened=True), True, ""),
        ],
    ),
    "first-request-leaves-a-name": (True, [("", "a", change(widened=True), True, "")]),
}


@pytest.mark.parametrize(("wildcard_type", "requests"), CHANGES.values(), ids=CHANGES.keys())
def test_changes(wildcard_type: bool, requests: list[tuple[str, str, Change, bool, str]]) -> None:
    subscription = Subscription(wildcard_type=wildcard_type)
    for number, (names, gone, changed, wildcard, left) in enumerate(requests):
        assert subscription.update(names, gone, first=number == 0) == changed, number
        assert stands(subscription) == (wildcard, left), number


@given(st.booleans(), st.lists(st.frozensets(st.sampled_from("abc*"), max_size=4), min_size=1, max_size=6))
def test_a_client_follows_what_it_named_last(wildcard_type: bool, lists: list[frozenset[str]]) -> None:
    subscription = Subscription(wildcard_type=wildcard_type)
    for number, names in enumerate(lists):
        subscription.replace(sorted(names))
        all_of_them = "*" in names or (wildcard_type and not any(lists[: number + 1]))
        assert subscription.wildcard is all_of_them
        assert subscription.names == names - {"*"}
        assert [name for name in "abcd" if subscription.includes(name)] == [
            name for name in "abcd" if all_of_them or name in names
        ]
        assert subscription.replace(sorted(names)) == NOTHING

"""Which certificate may be used by which node."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xds_server.xds.session import (
    DEFAULT_TEMPLATES,
    NodeDeniedError,
    Peer,
    TemplateError,
    parse_rule,
    vet,
)

DEFAULT = [parse_rule(template) for template in DEFAULT_TEMPLATES]
CHAT = "spiffe://mesh/ns/prod/sa/chat"
# Letters that mean something to regular expressions, globs, templates or names.
PART = st.text(alphabet="ab*?+.\\^$|()[]{}-%/:é ", min_size=1, max_size=6)
SEGMENT = PART.filter(lambda text: "/" not in text)
LABEL = st.text(alphabet="abc-_$+()[]^|{}", min_size=1, max_size=5)


def accepts(templates: list[str], node_id: str, group: str, *, uris: list[str], dns: list[str]) -> bool:
    rules = [parse_rule(template) for template in templates]
    try:
        vet(rules, Peer(uris=tuple(uris), dns=tuple(dns)), node_id=node_id, group=group)
    except NodeDeniedError:
        return False
    return True


@pytest.mark.parametrize(
    ("uris", "dns", "node_id", "group"),
    [
        ([CHAT], [], "n1", "chat"),
        ([CHAT], [], "any id at all", "chat"),
        ([], ["n1"], "n1", "any"),
        ([CHAT], ["n1"], "n1", "chat"),
        ([CHAT], ["n0", "n1"], "n1", "chat"),
        # A name of another form speaks of nobody.
        ([CHAT], ["chat.prod.svc"], "n1", "chat"),
        ([CHAT], ["*"], "n1", "chat"),
        (["https://example.com/", CHAT], [], "n1", "chat"),
    ],
)
def test_by_default_a_service_account_is_a_group_and_a_dns_name_an_id(
    uris: list[str], dns: list[str], node_id: str, group: str
) -> None:
    vet(DEFAULT, Peer(uris=tuple(uris), dns=tuple(dns)), node_id=node_id, group=group)


@pytest.mark.parametrize(
    ("uris", "dns", "node_id", "group", "known"),
    [
        ([], [], "n1", "chat", False),
        ([CHAT], [], "n1", "search", True),
        ([CHAT], [], "n1", "Chat", True),
        ([], ["n1"], "n2", "chat", True),
        ([], ["n1.chat.mesh"], "n1.chat.mesh", "chat", False),
        ([], ["*"], "*", "chat", False),
        ([CHAT + "/more"], [], "n1", "more", False),
        ([CHAT + "/"], [], "n1", "", False),
        (["spiffe://mesh/ns/prod/sa/"], [], "n1", "", False),
        (["spiffe://mesh/ns/a/b/sa/chat"], [], "n1", "chat", False),
        (["SPIFFE://mesh/ns/prod/sa/chat"], [], "n1", "chat", False),
        # The right id does not make up for another group's certificate, nor the other way round.
        ([CHAT], ["n1"], "n1", "search", True),
        ([CHAT], ["n1"], "n2", "chat", True),
        # A certificate with two SPIFFE ids is nobody's.
        ([CHAT, "spiffe://mesh/ns/prod/sa/search"], [], "n1", "chat", False),
        # A URI is no DNS name and the other way round.
        (["n1"], [CHAT], "n1", "chat", True),
    ],
)
def test_whatever_a_certificate_says_has_to_hold(
    uris: list[str], dns: list[str], node_id: str, group: str, known: bool
) -> None:
    with pytest.raises(NodeDeniedError) as caught:
        vet(DEFAULT, Peer(uris=tuple(uris), dns=tuple(dns)), node_id=node_id, group=group)
    assert caught.value.known == known


def test_a_name_that_is_half_right_lends_nothing() -> None:
    templates = ["dns:{id}.{group}.mesh", "spiffe://mesh/{group}"]
    dns = ["a.x.mesh", "b.y.mesh"]
    assert accepts(templates, "a", "x", uris=[], dns=dns)
    assert not accepts(templates, "a", "y", uris=[], dns=dns)
    assert not accepts(templates, "a", "y", uris=["spiffe://mesh/y"], dns=dns)
    assert accepts(templates, "b", "y", uris=["spiffe://mesh/y"], dns=dns)


def test_a_refusal_says_what_was_presented_and_what_would_do() -> None:
    peer = Peer(uris=(CHAT,), dns=("n1",))
    with pytest.raises(NodeDeniedError) as caught:
        vet(DEFAULT, peer, node_id="n1", group="search")
    assert str(caught.value) == (
        "node 'n1' of group 'search': the certificate presents spiffe://mesh/ns/prod/sa/chat, dns:n1, "
        "which is of another group; accepted would be spiffe://*/ns/*/sa/search or dns:n1"
    )
    with pytest.raises(NodeDeniedError, match=r"neither a URI nor a DNS name, which names no node here"):
        vet(DEFAULT, Peer(), node_id="n1", group="search")
    with pytest.raises(NodeDeniedError, match=r"'a\.b' never fits: \{id\} has no '\.'"):
        vet(DEFAULT, Peer(dns=("a.b",)), node_id="a.b", group="search")


@given(st.lists(PART, max_size=50), PART)
def test_a_refusal_stays_short_enough_for_a_status(names: list[str], part: str) -> None:
    peer = Peer(uris=("x" * 10_000,), dns=tuple(names))
    with pytest.raises(NodeDeniedError) as caught:
        vet([parse_rule("spiffe://mesh/{id}/{group}")], peer, node_id=part * 5_000, group=part * 5_000)
    assert len(str(caught.value)) < 2_000


@given(SEGMENT, SEGMENT, PART, PART)
def test_a_segment_of_a_uri_is_compared_as_text(
    namespace: str, account: str, node_id: str, group: str
) -> None:
    uri = f"spiffe://mesh/ns/{namespace}/sa/{account}"
    assert accepts(["spiffe://{trust_domain}/ns/*/sa/{group}"], node_id, account, uris=[uri], dns=[])
    found = accepts(["spiffe://{trust_domain}/ns/*/sa/{group}"], node_id, group, uris=[uri], dns=[])
    assert found == (group == account)


@given(LABEL, LABEL, PART, PART)
def test_labels_of_a_dns_name_are_compared_as_text(one: str, other: str, node_id: str, group: str) -> None:
    template, name = "dns:{id}.{group}.mesh", f"{one}.{other}.mesh"
    assert accepts([template], one, other, uris=[], dns=[name])
    assert accepts([template], node_id, group, uris=[], dns=[name]) == ((node_id, group) == (one, other))


@given(PART, PART)
def test_no_two_nodes_fit_one_name(node_id: str, group: str) -> None:
    """Whatever its parts hold, a name that is built for one node is of no other."""
    template = "dns:x-{id}-y.{group}.mesh"
    name = f"x-{node_id}-y.{group}.mesh"
    fits = accepts([template], node_id, group, uris=[], dns=[name])
    assert fits == ("." not in node_id + group and "*" not in name)


@given(
    st.lists(
        st.sampled_from(["spiffe://", "dns:", "{id}", "{group}", "*", "/", ".", "{", "}", "a"]), max_size=8
    )
)
def test_a_template_is_taken_or_refused(words: list[str]) -> None:
    template = "".join(words)
    try:
        rule = parse_rule(template)
    except TemplateError:
        return
    # What is taken accepts the name it stands for, and no node without a name.
    name = template.replace("{id}", "n1").replace("{group}", "g1").replace("*", "any")
    peer = Peer(dns=(name[4:],)) if name.startswith("dns:") else Peer(uris=(name,))
    vet([rule], peer, node_id="n1", group="g1")
    with pytest.raises(NodeDeniedError):
        vet([rule], peer, node_id="n2", group="g2")


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{group}", "neither a URI"),
        ("spiffe://mesh/ns/*", "any node"),
        ("dns:", "any node"),
        ("dns:{id}.{id}", "twice"),
        ("dns:{id}-{group}", "two ways"),
        ("dns:{id}..mesh", "empty part"),
        ("spiffe:///{group}", "empty part"),
        ("spiffe://mesh/{group", "unpaired brace"),
        ("spiffe://mesh/{role}/{group}", r"has \{role\}"),
        ("dns:{trust_domain}.{group}", "where no trust domain is"),
        ("spiffe://mesh/{trust_domain}/{group}", "where no trust domain is"),
    ],
)
def test_a_template_that_makes_no_sense_is_refused(template: str, words: str) -> None:
    with pytest.raises(TemplateError, match=words):
        parse_rule(template)

"""Which nodes a certificate is accepted for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xds_server.xds.session import (
    DEFAULT_TEMPLATES,
    NodeDeniedError,
    Peer,
    TemplateError,
    authorize_node,
    parse_rule,
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
        authorize_node(rules, Peer(uris=tuple(uris), dns=tuple(dns)), node_id=node_id, group=group)
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
        # A name of another form identifies no node.
        ([CHAT], ["chat.prod.svc"], "n1", "chat"),
        ([CHAT], ["*"], "n1", "chat"),
        (["https://example.com/", CHAT], [], "n1", "chat"),
    ],
)
def test_by_default_a_service_account_is_a_group_and_a_dns_name_an_id(
    uris: list[str], dns: list[str], node_id: str, group: str
) -> None:
    authorize_node(DEFAULT, Peer(uris=tuple(uris), dns=tuple(dns)), node_id=node_id, group=group)


@pytest.mark.parametrize(
    ("uris", "dns", "node_id", "group", "identified"),
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
        # A certificate of another group is denied even if the id matches, and vice versa.
        ([CHAT], ["n1"], "n1", "search", True),
        ([CHAT], ["n1"], "n2", "chat", True),
        # A certificate with two SPIFFE ids is invalid.
        ([CHAT, "spiffe://mesh/ns/prod/sa/search"], [], "n1", "chat", False),
        # A URI is not compared as a DNS name, nor a DNS name as a URI.
        (["n1"], [CHAT], "n1", "chat", True),
    ],
)
def test_every_identity_in_a_certificate_must_match(
    uris: list[str], dns: list[str], node_id: str, group: str, identified: bool
) -> None:
    with pytest.raises(NodeDeniedError) as caught:
        authorize_node(DEFAULT, Peer(uris=tuple(uris), dns=tuple(dns)), node_id=node_id, group=group)
    assert caught.value.identified == identified


def test_a_name_that_matches_in_part_does_not_count() -> None:
    templates = ["dns:{id}.{group}.mesh", "spiffe://mesh/{group}"]
    dns = ["a.x.mesh", "b.y.mesh"]
    assert accepts(templates, "a", "x", uris=[], dns=dns)
    assert not accepts(templates, "a", "y", uris=[], dns=dns)
    assert not accepts(templates, "a", "y", uris=["spiffe://mesh/y"], dns=dns)
    assert accepts(templates, "b", "y", uris=["spiffe://mesh/y"], dns=dns)


def test_a_denial_contains_the_actual_and_expected_names() -> None:
    peer = Peer(uris=(CHAT,), dns=("n1",))
    with pytest.raises(NodeDeniedError) as caught:
        authorize_node(DEFAULT, peer, node_id="n1", group="search")
    assert str(caught.value) == (
        "node 'n1' of group 'search': the certificate is for another group; the certificate has "
        "spiffe://mesh/ns/prod/sa/chat, dns:n1; expected: spiffe://*/ns/*/sa/search"
    )
    with pytest.raises(
        NodeDeniedError,
        match=r"matches an identity template .*the certificate has neither a URI nor a DNS name",
    ):
        authorize_node(DEFAULT, Peer(), node_id="n1", group="search")
    with pytest.raises(NodeDeniedError, match=r"cannot match 'a\.b': \{id\} must not contain '\.'"):
        authorize_node(DEFAULT, Peer(dns=("a.b",)), node_id="a.b", group="search")


@given(st.lists(PART, max_size=50), PART)
def test_a_denial_is_short_enough_for_a_grpc_status(names: list[str], part: str) -> None:
    peer = Peer(uris=("x" * 10_000,), dns=tuple(names))
    with pytest.raises(NodeDeniedError) as caught:
        authorize_node(
            [parse_rule("spiffe://mesh/{id}/{group}")], peer, node_id=part * 5_000, group=part * 5_000
        )
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
def test_no_two_nodes_match_one_name(node_id: str, group: str) -> None:
    """A name that contains the id and group of one node matches no other node."""
    template = "dns:x-{id}-y.{group}.mesh"
    name = f"x-{node_id}-y.{group}.mesh"
    fits = accepts([template], node_id, group, uris=[], dns=[name])
    assert fits == ("." not in node_id + group and "*" not in name)


@given(
    st.lists(
        st.sampled_from(["spiffe://", "dns:", "{id}", "{group}", "*", "/", ".", "{", "}", "a"]), max_size=8
    )
)
def test_a_template_is_accepted_or_rejected(parts: list[str]) -> None:
    template = "".join(parts)
    try:
        rule = parse_rule(template)
    except TemplateError:
        return
    # An accepted template matches the name it describes, and no other node.
    name = template.replace("{id}", "n1").replace("{group}", "g1").replace("*", "any")
    peer = Peer(dns=(name[4:],)) if name.startswith("dns:") else Peer(uris=(name,))
    authorize_node([rule], peer, node_id="n1", group="g1")
    with pytest.raises(NodeDeniedError):
        authorize_node([rule], peer, node_id="n2", group="g2")


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{group}", "neither a URI"),
        ("spiffe://mesh/ns/*", "every node could use a certificate"),
        ("dns:", "every node could use a certificate"),
        ("dns:{id}.{id}", "more than once"),
        ("dns:{id}-{group}", "ambiguous"),
        ("dns:{id}..mesh", "empty segment"),
        ("spiffe:///{group}", "empty segment"),
        ("spiffe://mesh/{group", "unpaired brace"),
        ("spiffe://mesh/{role}/{group}", r"unknown placeholder \{role\}"),
        ("dns:{trust_domain}.{group}", "only a URI template may have"),
        ("spiffe://mesh/{trust_domain}/{group}", "in the wrong place"),
    ],
)
def test_an_invalid_template_is_rejected(template: str, message: str) -> None:
    with pytest.raises(TemplateError, match=message):
        parse_rule(template)

import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mesh.contract.namespace import MAX_KEY_BYTES, Address, Namespace, decode_token, encode_token
from mesh.errors import ContractError, UsageError

NAMESPACES = st.from_regex(r"[a-z][a-z0-9-]{0,30}", fullmatch=True).map(Namespace)
NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,30}", fullmatch=True)
AGENTS = st.from_regex(r"[a-z]([a-z0-9]|-(?!-)){0,40}", fullmatch=True)
# No character takes more than four bytes, and no byte more than three characters.
KEYS = st.text(min_size=1, max_size=MAX_KEY_BYTES // 12) | st.text("abcXYZ019-_", min_size=1, max_size=MAX_KEY_BYTES)


@given(KEYS)
def test_a_key_is_a_short_safe_token_that_reads_back(key):
    token = encode_token(key)

    assert re.fullmatch(r"([A-Za-z0-9_-]|%[0-9A-F]{2})+", token)
    assert len(token) <= MAX_KEY_BYTES
    assert decode_token(token) == key


@given(st.text(min_size=MAX_KEY_BYTES + 1))
def test_a_key_that_cannot_be_short_is_refused(key):
    with pytest.raises(ContractError) as refused:
        encode_token(key)

    assert refused.value.code == "key_too_long"


@given(KEYS, KEYS)
def test_different_keys_have_different_tokens(one, other):
    assume(one != other)

    assert encode_token(one) != encode_token(other)


@pytest.mark.parametrize(
    ("key", "token"),
    [("42", "42"), ("a-b_c", "a-b_c"), ("a.b", "a%2Eb"), ("50 %", "50%20%25"), ("é", "%C3%A9"), ("*>\n", "%2A%3E%0A")],
)
def test_keys_are_percent_encoded(key, token):
    assert encode_token(key) == token


@given(st.text())
def test_any_token_can_be_read_whoever_wrote_it(token):
    assert isinstance(decode_token(token), str)


def test_a_key_of_180_bytes_is_the_longest():
    assert len(encode_token("é" * 30)) == 180
    with pytest.raises(ContractError, match="the lead takes 186 bytes in a subject, 180 are allowed: use a shorter"):
        encode_token("é" * 31, object="the lead")


def test_an_empty_key_is_refused():
    with pytest.raises(ContractError, match="key is empty: give it a value"):
        encode_token("")


@given(NAMESPACES, NAMES, st.sampled_from(["evt", "cmd", "state"]), NAMES, KEYS)
def test_the_subject_of_a_message_reads_back(namespace, domain, kind, name, key):
    subject = namespace.message(domain, kind, name, key)

    assert namespace.parse(subject) == Address(domain, kind, name, key)


@given(NAMESPACES, NAMES, AGENTS, NAMES, KEYS)
def test_the_subject_of_what_concerns_one_agent_reads_back(namespace, domain, agent, name, key):
    assert namespace.parse(namespace.dead(domain, agent, name, key)) == Address(domain, "dead", name, key, agent)
    assert namespace.parse(namespace.redo(domain, agent, name, key)) == Address(domain, "redo", name, key, agent)
    assert namespace.parse(namespace.done(domain, agent, key)) == Address(domain, "done", "", key, agent)


@given(NAMESPACES, NAMES, NAMES, NAMES, KEYS)
def test_the_subject_of_a_decision_reads_back(namespace, domain, question, entity_type, key):
    subject = namespace.decision(domain, question, f"{entity_type}/{key}")

    assert namespace.parse(subject) == Address(domain, "dec", question, f"{entity_type}/{key}")


@given(NAMESPACES, NAMES, NAMES, NAMES, KEYS)
def test_the_subject_of_an_output_into_another_domain_reads_back(namespace, domain, target, name, key):
    assert namespace.parse(namespace.out(domain, target, name, key)) == Address(domain, "out", name, key)


@pytest.mark.parametrize(
    "subject", ["", "other.shop.evt.sold.1", "mesh.shop", "mesh.shop.evt.sold", "mesh.shop.evt.sold.1.2", "$KV.a.b.c.d"]
)
def test_what_is_no_subject_of_the_namespace_is_not_read(subject):
    assert Namespace().parse(subject) is None


@pytest.mark.parametrize("name", ["", "Mesh", "1st", "a.b", "a_b", "a b", "a\n", "*"])
def test_a_namespace_that_fits_no_subject_is_refused(name):
    with pytest.raises(UsageError, match="lower-case letter") as refused:
        Namespace(name)

    assert refused.value.object == "MESH_NAMESPACE"


def test_streams_and_buckets_carry_the_namespace():
    team = Namespace("team-a")

    assert (team.stream("web_shop"), team.journal_stream) == ("TEAM_A_WEB_SHOP", "TEAM_A_JOURNAL")
    assert (team.registry_bucket, team.presence_bucket) == ("team-a-registry", "team-a-presence")
    assert team.domain("web_shop") == "team-a.web_shop.>"


@given(st.text(min_size=1))
def test_the_journal_of_any_event_has_a_subject_of_three_short_tokens(event_id):
    prefix, agent, token = Namespace("t").journal("seller", event_id).split(".")

    assert (prefix, agent) == ("t-journal", "seller")
    assert re.fullmatch(r"[A-Za-z0-9_%-]+", token)
    assert len(token) <= MAX_KEY_BYTES


def test_events_with_long_ids_have_journals_of_their_own():
    journals = {Namespace().journal("seller", "x" * 500 + end) for end in "ab"}

    assert len(journals) == 2

from datetime import UTC, datetime, timedelta

from mesh.contract.namespace import Namespace
from mesh.query.flow import build_flows
from mesh.query.record import Record

START = datetime(2026, 11, 1, tzinfo=UTC)


def record(event_id, cause="", *, seq, root="root", domain="shop", subject="evt.order_placed.7"):
    return Record(
        message=None,
        id=event_id,
        key="7",
        type="shop.v1.OrderPlaced",
        agent="clerk" if cause else "",
        seq=seq,
        time=START + timedelta(milliseconds=seq),
        correlation_id=root,
        causation_id=cause,
        stream=f"MESH_{domain.upper()}",
        subject=f"mesh.{domain}.{subject}",
        size=0,
    )


def flows(*records):
    return build_flows(Namespace("mesh"), records)


def tree(step):
    """A step as its id, or as its id with the trees of its effects."""
    return {step.record.id: [tree(effect) for effect in step.effects]} if step.effects else step.record.id


def test_effects_hang_below_their_cause_in_the_order_of_the_log():
    (flow,) = flows(
        record("root", seq=1),
        record("a", "root", seq=2),
        record("b", "root", seq=3),
        record("a1", "a", seq=4),
    )

    assert [tree(root) for root in flow.roots] == [{"root": [{"a": ["a1"]}, "b"]}]
    assert [step.record.id for step in flow.walk()] == ["root", "a", "a1", "b"]


def test_a_hop_lasts_from_the_stored_cause_to_the_stored_effect():
    (flow,) = flows(record("root", seq=1), record("a", "root", seq=5))

    root, effect = flow.walk()
    assert (root.latency, effect.latency) == (None, timedelta(milliseconds=4))


def test_every_correlation_is_a_flow_of_its_own():
    found = flows(record("1", root="1", seq=1), record("2", root="2", seq=2), record("1a", "1", root="1", seq=3))

    assert [(flow.correlation_id, len(list(flow.walk()))) for flow in found] == [("1", 2), ("2", 1)]


def test_a_step_whose_cause_is_gone_from_the_log_is_a_root():
    (flow,) = flows(record("b", "expired", seq=7), record("c", "b", seq=8))

    assert [tree(root) for root in flow.roots] == [{"b": ["c"]}]


def test_an_output_in_another_domain_hangs_below_its_cause():
    (flow,) = flows(record("bill", "root", seq=1, domain="billing"), record("root", seq=9))

    assert [tree(root) for root in flow.roots] == [{"root": ["bill"]}]


def test_of_two_roots_with_the_same_id_the_one_in_the_stream_of_the_effect_is_the_cause():
    (flow,) = flows(
        record("7", root="7", seq=1),
        record("7", root="7", seq=2, domain="billing"),
        record("paid", "7", root="7", seq=3, domain="billing"),
    )

    assert [(tree(root), root.record.stream) for root in flow.roots] == [
        ("7", "MESH_SHOP"),
        ({"7": ["paid"]}, "MESH_BILLING"),
    ]


def test_messages_that_claim_to_cause_each_other_are_all_found():
    (flow,) = flows(record("a", "b", seq=1), record("b", "a", seq=2), record("c", "c", seq=3))

    assert [step.record.id for step in flow.walk()] == ["a", "b", "c"]


def test_a_step_says_whether_it_is_an_event_a_commit_or_a_dead_letter():
    (flow,) = flows(
        record("root", seq=1),
        record("done", "root", seq=2, subject="done.clerk.7"),
        record("dead", "root", seq=3, subject="dead.clerk.order_placed.7"),
    )

    assert [step.kind for step in flow.walk()] == ["evt", "done", "dead"]


def test_subjects_of_others_are_left_out():
    assert flows(record("stray", seq=1, subject="nonsense")) == []

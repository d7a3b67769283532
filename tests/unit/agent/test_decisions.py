import pytest

from mesh.agent.decisions import Decisions
from mesh.contract.cloudevents import CloudEvent
from mesh.errors import UsageError
from mesh.v1.decision_pb2 import Decision

EVENT = CloudEvent("e1", "/erp", "shop.v1.OrderPlaced", "order/7", "root")


@pytest.fixture
def earlier():
    """The decisions on every question before this handling, and the sequence of the last."""
    return [], 0


@pytest.fixture
def decide(decisions):
    """Decides with as few words as possible."""

    async def decide(question="discount", choice="15%", **changes):
        details = dict.fromkeys(["confidence", "entity"]) | {
            "evidence": (),
            "alternatives": (),
            "model": "",
            "tokens": (0, 0),
        }
        return await decisions.decide(question, choice, "because", **details | changes)

    return decide


@pytest.fixture
def decisions(earlier):
    async def read(question, entity):
        return list(earlier[0]), earlier[1]

    return Decisions("seller", EVENT, "order/7", read)


async def test_a_decision_says_who_decided_what_about_what_on_which_evidence(decide):
    taken = await decide(confidence=0.8, alternatives=["10%"])

    assert (taken.question, taken.choice, taken.because) == ("discount", "15%", "because")
    assert (taken.agent, taken.entity, taken.event_id) == ("seller", "order/7", "e1")
    assert (taken.confidence, list(taken.alternatives), list(taken.evidence)) == (0.8, ["10%"], ["e1"])
    assert (taken.overrides, taken.had_seen) == ("", False)


async def test_decisions_of_the_same_handling_have_the_same_ids(decide, earlier):
    async def read(question, entity):
        return [], 0

    ids = [(await decide("discount")).id, (await decide("channel")).id]
    again = Decisions("seller", EVENT, "order/7", read)
    details = {"confidence": None, "evidence": (), "alternatives": (), "entity": None, "model": "", "tokens": (0, 0)}

    assert [(await again.decide(question, "x", "y", **details)).id for question in ("discount", "channel")] == ids
    assert len(set(ids)) == 2


class TestAfterAnother:
    @pytest.fixture
    def earlier(self):
        return [Decision(id="d1", choice="5%"), Decision(id="d2", choice="10%")], 40

    async def test_a_decision_overrides_the_last_one(self, decide):
        taken = await decide()

        assert (taken.overrides, taken.had_seen) == ("d2", False)

    async def test_it_tells_whether_the_handler_had_seen_it(self, decisions, decide):
        assert [d.id for d in await decisions.history("discount", None)] == ["d1", "d2"]

        assert (await decide()).had_seen

    async def test_the_history_includes_it_and_the_thread_keeps_what_the_commit_expects(self, decisions, decide):
        taken = await decide()
        [thread] = decisions.threads

        assert [d.id for d in await decisions.history("discount", None)] == ["d1", "d2", taken.id]
        assert (thread.sequence, thread.taken) == (40, taken)


async def test_questions_about_different_entities_are_different(decisions, decide):
    await decide()
    await decide(entity="lead/42")

    assert [thread.entity for thread in decisions.threads] == ["order/7", "lead/42"]


async def test_a_question_is_decided_once_in_a_handling(decide):
    await decide()

    with pytest.raises(UsageError, match="decided twice") as refused:
        await decide()
    assert refused.value.code == "decided_twice"


@pytest.mark.parametrize(
    "wrong",
    [
        {"question": "What now?"}, {"question": ""}, {"question": "a.b"}, {"choice": ""}, {"confidence": 1.1},
        {"confidence": -0.1}, {"confidence": float("nan")}, {"entity": "lead"}, {"entity": "/42"}, {"entity": "lead/"},
    ],
    ids=str,
)  # fmt: skip
async def test_what_is_no_decision_is_refused(decisions, decide, wrong):
    with pytest.raises(UsageError) as refused:
        await decide(**wrong)

    assert refused.value.cure
    assert not any(thread.taken for thread in decisions.threads)

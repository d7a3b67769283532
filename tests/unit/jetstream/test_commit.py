import asyncio
import base64
import json
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.errors import Conflict, Refused, Unreachable
from mesh.jetstream import commit
from mesh.jetstream.commit import Committer
from mesh.runtime.ports import Committed, Write

SUBJECTS = st.sampled_from("abcdef")
WRITES = st.builds(
    Write,
    SUBJECTS,
    st.sampled_from([b"", bytes(1 << 20)]),
    expect=st.none() | st.integers(0, 3),
    expect_subject=st.none() | SUBJECTS,
)
LONG = st.integers(100, 600).map(lambda count: [Write("g", b"")] * count)
TRANSACTIONS = st.lists(st.lists(WRITES, min_size=1, max_size=3) | LONG, max_size=12)


def touched(transaction):
    return {w.subject for w in transaction} | {w.expect_subject for w in transaction if w.expect_subject}


@given(TRANSACTIONS)
async def test_groups_lose_nothing_keep_the_order_of_each_subject_and_stay_within_limits(transactions):
    committer = Committer(None, "S")
    loop = asyncio.get_running_loop()
    committer._waiting.extend(commit._Transaction(writes, loop.create_future()) for writes in transactions)

    groups = []
    while committer._waiting:
        groups.append([transaction.writes for transaction in committer._next_group()])
        assert groups[-1]

    for group in groups:
        subjects = [subject for transaction in group for subject in touched(transaction)]
        assert len(subjects) == len(set(subjects))
        messages = [write for transaction in group for write in transaction]
        size = sum(len(write.data) + 1024 for write in messages)
        assert len(group) == 1 or (len(messages) <= 500 and size <= 4 << 20)
    taken = [transaction for group in groups for transaction in group]
    assert sorted(map(id, taken)) == sorted(map(id, transactions))
    for subject in "abcdefg":
        order = [id(transaction) for transaction in transactions if subject in touched(transaction)]
        assert [id(transaction) for transaction in taken if subject in touched(transaction)] == order


async def test_whoever_stopped_waiting_is_left_out_of_a_group():
    committer = Committer(None, "S")
    gone, waiting = [commit._Transaction([Write("a", b"")], asyncio.Future()) for _ in range(2)]
    gone.done.cancel()
    committer._waiting.extend([gone, waiting])

    assert committer._next_group() == [waiting]


class Server:
    """A connection to a stream that takes batches and single messages, and refuses what it is told to."""

    def __init__(self):
        self.stored = []
        self.batches = []
        self.refusals = {}
        self._open = []

    request_timeout = 0.02

    def check_size(self, subject, data, headers): ...

    def forget(self, token): ...

    async def request(self, subject, data=b"", headers=None):
        if subject.startswith("$JS.API.STREAM.MSG.GET"):
            return self._message(json.loads(data)["last_by_subj"])
        return self._answer([(subject, headers)])

    async def publish(self, subject, data, headers):
        self._open.append((subject, headers))

    async def send(self, subject, data, headers):
        answer = asyncio.Future()
        self._open.append((subject, headers))
        if "Nats-Batch-Commit" in headers:
            batch, self._open = self._open, []
            self.batches.append([subject for subject, _ in batch])
            answer.set_result(self._answer(batch))
        else:
            answer.set_result(SimpleNamespace(headers=None, data=b""))
        return "token", answer

    def _answer(self, messages):
        for subject, _ in messages:
            if codes := self.refusals.get(subject):
                error = codes.pop(0) if len(codes) > 1 else codes[0]
                if isinstance(error, Exception):
                    raise error
                if error:
                    return reply({"error": {"err_code": error, "description": "no"}})
        self.stored += messages
        return reply({"seq": len(self.stored)})

    def _message(self, subject):
        headers = [headers for stored, headers in self.stored if stored == subject]
        if not headers:
            return reply({"error": {"err_code": 10037}})
        block = f"NATS/1.0\r\nNats-Msg-Id: {headers[-1]['Nats-Msg-Id']}\r\n\r\n"
        encoded = base64.b64encode(block.encode()).decode()
        return reply({"message": {"subject": subject, "hdrs": encoded, "seq": 7, "time": "2026-11-01T00:00:00Z"}})


def reply(document):
    return SimpleNamespace(headers=None, data=json.dumps(document).encode())


@pytest.fixture
def server(monkeypatch):
    async def at_once(number): ...

    monkeypatch.setattr(commit, "_pause", at_once)
    return Server()


@pytest.fixture
def committer(server):
    return Committer(server, "S")


def pair(name):
    """A transaction of two messages."""
    return [Write(f"{name}.event", b"", {"Nats-Msg-Id": name}), Write(f"{name}.state", b"", expect=0)]


async def test_transactions_that_are_ready_together_share_a_batch_and_know_their_places(committer, server):
    found = await asyncio.gather(*(committer.commit(pair(name)) for name in "abc"))

    assert server.batches == [["a.event", "a.state", "b.event", "b.state", "c.event", "c.state"]]
    assert found == [Committed(2), Committed(4), Committed(6)]


async def test_a_refused_transaction_does_not_take_the_others_with_it(committer, server):
    server.refusals["b.event"] = [10071]

    one, refused, other = await asyncio.gather(*map(committer.commit, map(pair, "abc")), return_exceptions=True)

    assert isinstance(refused, Conflict)
    assert refused.server_code == 10071
    assert [subject for subject, _ in server.stored] == ["a.event", "a.state", "c.event", "c.state"]
    assert (one, other) == (Committed(2), Committed(4))


async def test_a_transaction_that_was_committed_before_is_a_duplicate(committer, server):
    server.refusals["a.event"] = [10201]

    assert await committer.commit(pair("a")) == Committed(0, duplicate=True)


@pytest.mark.parametrize("passing", [10158, 10176, 10210, Unreachable("away")], ids=str)
async def test_what_passes_is_tried_again(committer, server, passing):
    server.refusals["a.event"] = [passing, None]

    assert await committer.commit(pair("a")) == Committed(2)
    assert await committer.commit([Write("b", b"")]) == Committed(3)


async def test_what_does_not_pass_is_unreachable_in_the_end(committer, server):
    server.refusals["a.event"] = [10210]

    with pytest.raises(Unreachable, match="a commit into S was not acknowledged"):
        await committer.commit(pair("a"))


async def test_a_single_message_needs_no_batch(committer, server):
    assert await committer.commit([Write("a", b"", {"Nats-Msg-Id": "1"}, expect=3, expect_subject="b")]) == Committed(1)
    assert server.batches == []
    assert server.stored == [
        (
            "a",
            {
                "Nats-Msg-Id": "1",
                "Nats-Expected-Last-Subject-Sequence": "3",
                "Nats-Expected-Last-Subject-Sequence-Subject": "b",
            },
        )
    ]


async def test_a_conflict_with_ones_own_lost_acknowledgement_is_a_success(committer, server):
    server.stored = [("a", {"Nats-Msg-Id": "mine"})]
    server.refusals["a"] = [Unreachable("lost"), 10071]

    assert await committer.commit([Write("a", b"", {"Nats-Msg-Id": "mine"}, expect=0)]) == Committed(7, duplicate=True)


@pytest.mark.parametrize("answers", [[10071], [Unreachable("lost"), 10071]], ids=["at once", "after a lost answer"])
async def test_a_conflict_with_somebody_else_is_one(committer, server, answers):
    server.stored = [("a", {"Nats-Msg-Id": "theirs"})]
    server.refusals["a"] = answers

    with pytest.raises(Conflict):
        await committer.commit([Write("a", b"", {"Nats-Msg-Id": "mine"}, expect=0)])


async def test_other_refusals_are_final(committer, server):
    server.refusals["a"] = [10054]

    with pytest.raises(Refused, match="JetStream refuses a: no") as refused:
        await committer.commit([Write("a", b"")])

    assert refused.value.server_code == 10054

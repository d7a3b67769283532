import pytest

from mesh.errors import Conflict
from mesh.runtime.journal import Journal
from mesh.v1.log_pb2 import JournalEntry, StepId

FAILURE = JournalEntry(failure=JournalEntry.Failure(reason="broken"))
WAIT = JournalEntry(failure=JournalEntry.Failure(reason="not yet", uncounted=True))
HAND_BACK = JournalEntry(hand_back=JournalEntry.HandBack(reason="shutdown"))
ALONE = JournalEntry(alone=JournalEntry.Alone(process="host/1"))
INTENT = JournalEntry(intent=JournalEntry.Intent())
STEP = StepId(name="ask", digest=b"d")


def during(delivery, entry):
    """An entry that was written during a delivery."""
    copy = JournalEntry()
    copy.CopyFrom(entry)
    copy.delivery = delivery
    return copy


@pytest.fixture
def journal(log, names):
    """Opens a journal of one event, as a process does that is given the event."""

    def open_(*, is_new=False, event_id="e1"):
        return Journal(log, names, "seller", event_id, is_new=is_new)

    return open_


@pytest.fixture
async def after(journal):
    """The journal of an event as a process finds it after the given entries."""

    async def write(*entries):
        earlier = journal()
        for entry in entries:
            await earlier.append(entry)
        found = journal()
        await found.load()
        return found

    return write


async def test_what_one_process_wrote_the_next_one_reads(after):
    found = await after(during(1, FAILURE), during(2, HAND_BACK))

    assert [entry.WhichOneof("entry") for entry in found.entries] == ["failure", "hand_back"]


async def test_an_event_and_its_redrive_have_journals_of_their_own(journal, log):
    await journal(event_id="e1").append(FAILURE)
    await journal(event_id="e1/redo/1").append(FAILURE)

    assert {stored.subject for stored in log.streams["MESH_JOURNAL"]} == {
        "mesh-journal.seller.e1",
        "mesh-journal.seller.e1%2Fredo%2F1",
    }


async def test_only_failures_count_as_attempts(after):
    found = await after(during(1, FAILURE), during(2, WAIT), during(3, HAND_BACK), during(4, ALONE), during(5, FAILURE))

    assert found.attempts == 2


async def test_the_first_delivery_is_never_suspect(after):
    assert not (await after()).is_suspect(1)


async def test_a_redelivery_without_a_word_about_the_last_delivery_is_suspect(after):
    assert (await after()).is_suspect(2)
    assert (await after(during(1, FAILURE))).is_suspect(3)


@pytest.mark.parametrize("entry", [FAILURE, WAIT, HAND_BACK], ids=["failed", "waits", "handed back"])
async def test_a_redelivery_with_a_word_about_the_last_delivery_is_not_suspect(after, entry):
    assert not (await after(during(4, entry))).is_suspect(5)


@pytest.mark.parametrize("entry", [ALONE, INTENT], ids=["alone", "intent"])
async def test_what_was_written_before_the_handler_ended_accounts_for_nothing(after, entry):
    assert (await after(during(1, entry))).is_suspect(2)


async def test_a_death_alone_is_one_after_which_nothing_was_written(after):
    found = await after(
        during(2, ALONE),
        during(3, ALONE), during(3, FAILURE),
        during(4, ALONE), during(4, HAND_BACK),
        during(5, ALONE),
    )  # fmt: skip

    assert found.died_alone() == 2


async def test_of_two_processes_with_one_event_only_the_first_writes(journal):
    one, other = journal(), journal()
    await one.load()
    await other.load()

    await one.append(FAILURE)
    with pytest.raises(Conflict):
        await other.append(FAILURE)

    assert other.entries == []
    await other.append(HAND_BACK)
    assert [entry.WhichOneof("entry") for entry in other.entries] == ["failure", "hand_back"]


async def test_a_new_event_is_not_asked_for(journal, log, monkeypatch):
    monkeypatch.delattr(type(log), "read")

    await journal(is_new=True).append(FAILURE)

    assert len(log.streams["MESH_JOURNAL"]) == 1


async def test_a_settled_event_leaves_nothing_behind(after, log):
    await (await after(FAILURE, HAND_BACK)).purge()

    assert log.streams["MESH_JOURNAL"] == []


async def test_entries_expire_except_the_intent_of_an_effect(after, log):
    await after(FAILURE, INTENT)

    assert [stored.headers["Nats-TTL"] for stored in log.streams["MESH_JOURNAL"]] == ["168h", "never"]


async def test_a_result_is_recalled_by_the_next_process(journal):
    await journal().record(STEP, "", b"42")
    later = journal()
    await later.load()

    assert await later.recall(STEP) == ("", b"42")
    assert await later.recall(StepId(name="ask", digest=b"other")) is None
    assert await later.recall(StepId(name="ask", digest=b"d", occurrence=1)) is None


async def test_a_large_result_lies_in_the_blob_store(journal, log):
    large = bytes(100_000)
    await journal().record(STEP, "shop.v1.OrderPlaced", large)
    later = journal()
    await later.load()

    assert len(log.streams["MESH_JOURNAL"][0].data) < 1000
    assert await later.recall(STEP) == ("shop.v1.OrderPlaced", large)


async def test_of_two_results_of_one_call_the_first_counts(journal):
    one, other = journal(), journal()
    await other.load()
    await one.record(STEP, "", b"first")

    assert await other.record(STEP, "", b"second") == ("", b"first")


async def test_an_effect_is_begun_by_one_process_only(journal):
    one, other = journal(), journal()
    await other.load()

    assert await one.begin(STEP)
    assert not await other.begin(STEP)
    assert await other.intends(STEP)


async def test_an_effect_that_did_not_happen_may_be_begun_again(journal):
    events = journal()
    await events.begin(STEP)
    await events.call_off(STEP)
    assert not await events.intends(STEP)

    await events.begin(STEP)
    assert await events.intends(STEP)

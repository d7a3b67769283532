import asyncio
import importlib

import pytest
from shop.v1.events_pb2 import OrderPlaced, Stock

from mesh.agent.state import State
from mesh.cli.proto import generate
from mesh.contract.event_type import Domain
from mesh.contract.generated import event_type
from mesh.errors import ContractError, UsageError

LEDGER = """
syntax = "proto3";
package ledger.v1;
import "mesh/v1/options.proto";
option (mesh.v1.domain) = {name: "ledger"};
message Account {
  option (mesh.v1.state) = {};
  int64 account_id = 1 [(mesh.v1.key) = true];
  int64 balance = 2;
}
"""


@pytest.fixture(scope="module")
def account(tmp_path_factory):
    """A state whose key is an integer."""
    protos, out = tmp_path_factory.mktemp("protos"), tmp_path_factory.mktemp("out")
    (protos / "ledger/v1").mkdir(parents=True)
    (protos / "ledger/v1/state.proto").write_text(LEDGER)
    generate(protos, out)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(out)
        yield importlib.import_module("ledger.v1.state_pb2").Account


@pytest.fixture
def reads():
    """(full name, key) of each read."""
    return []


@pytest.fixture
def state(reads):
    """Makes a state of a domain in which the given messages are stored, at the sequences 10, 20, …"""

    def make(*messages, domain="shop"):
        stored = {
            (event_type(type(m)).full_name, event_type(type(m)).key(m)): (m.SerializeToString(), 10 * number)
            for number, m in enumerate(messages, 1)
        }

        async def read(kind, key):
            reads.append((kind.full_name, key))
            await asyncio.sleep(0)
            return stored.get((kind.full_name, key), (None, 0))

        return State(Domain(domain), read)

    return make


def entries(state):
    return [(entry.key, entry.sequence, entry.written) for entry in state.entries]


async def test_state_is_read_once_and_remembered_with_its_sequence(state, reads):
    shop = state(Stock(shelf_id="a", reserved=3))

    assert await shop.get(Stock, "a") == await shop.get(Stock, "a") == Stock(shelf_id="a", reserved=3)
    assert reads == [("shop.v1.Stock", "a")]
    assert entries(shop) == [("a", 10, False)]


async def test_state_that_is_not_there_is_none_and_counts_as_read(state):
    shop = state()

    assert await shop.get(Stock, "a") is None
    assert entries(shop) == [("a", 0, False)]


async def test_a_change_of_what_was_read_is_kept_only_by_put(state):
    shop = state(Stock(shelf_id="a", reserved=3))
    stock = await shop.get(Stock, "a")

    stock.reserved = 4
    assert (await shop.get(Stock, "a")).reserved == 3

    await shop.put(stock)
    stock.reserved = 5
    assert (await shop.get(Stock, "a")).reserved == 4
    assert entries(shop) == [("a", 10, True)]


async def test_state_that_was_never_read_is_read_by_put_so_that_the_commit_can_check_it(state, reads):
    shop = state(Stock(shelf_id="a", reserved=3))

    await shop.put(Stock(shelf_id="a", reserved=1))

    assert reads == [("shop.v1.Stock", "a")]
    assert entries(shop) == [("a", 10, True)]


async def test_deleted_state_is_gone(state):
    shop = state(Stock(shelf_id="a", reserved=3))

    await shop.delete(Stock, "a")

    assert await shop.get(Stock, "a") is None
    assert entries(shop) == [("a", 10, True)]


async def test_deleting_what_is_not_there_writes_nothing(state):
    shop = state()

    await shop.delete(Stock, "a")

    assert entries(shop) == [("a", 0, False)]


async def test_new_state_has_its_key_and_is_not_written_before_put(state):
    shop = state(Stock(shelf_id="a", reserved=3))

    assert await shop.get_or_new(Stock, "a") == Stock(shelf_id="a", reserved=3)
    assert await shop.get_or_new(Stock, "b") == Stock(shelf_id="b")
    assert entries(shop) == [("a", 10, False), ("b", 0, False)]


@pytest.mark.parametrize("key", [42, "42"], ids=["number", "text"])
async def test_an_integer_key_may_be_given_as_number_or_text(state, account, reads, key):
    ledger = state(domain="ledger")

    new = await ledger.get_or_new(account, key)
    new.balance = 7
    await ledger.put(new)

    assert await ledger.get(account, 42) == account(account_id=42, balance=7)
    assert reads == [("ledger.v1.Account", "42")]


async def test_state_that_holds_nothing_but_a_key_of_zero_is_there(state, account):
    ledger = state(domain="ledger")

    await ledger.put(account(account_id=0))

    assert await ledger.get(account, 0) == account()
    (entry,) = ledger.entries
    assert entry.written
    assert entry.data is not None


async def test_concurrent_reads_of_an_entity_see_one_version():
    versions = [Stock(shelf_id="a", reserved=1), Stock(shelf_id="a", reserved=2)]
    sequence = 0

    async def read(kind, key):
        nonlocal sequence
        sequence += 1
        found = versions[sequence - 1].SerializeToString(), sequence
        await asyncio.sleep(0)
        return found

    shop = State(Domain("shop"), read)

    one, other = await asyncio.gather(shop.get(Stock, "a"), shop.get(Stock, "a"))

    assert one == other == Stock(shelf_id="a", reserved=1)
    assert entries(shop) == [("a", 1, False)]


async def test_a_message_that_is_no_state_is_refused(state, reads):
    shop = state()

    for attempt in (shop.get(OrderPlaced, "7"), shop.put(OrderPlaced(order_id="7")), shop.delete(OrderPlaced, "7")):
        with pytest.raises(UsageError, match=r"shop\.v1\.OrderPlaced is not a state: mark it") as refused:
            await attempt
        assert refused.value.code == "not_a_state"
    assert reads == []


async def test_state_of_another_domain_is_refused(state, account, reads):
    with pytest.raises(UsageError, match="belongs to the domain ledger, this event to shop") as refused:
        await state().get(account, 1)

    assert (refused.value.code, refused.value.object) == ("foreign_state", "ledger.v1.Account")
    assert "emit an event into ledger" in refused.value.cure
    assert reads == []


@pytest.mark.parametrize("content", [{"reserved": 1}, {"shelf_id": "a", "reserved": -1}], ids=["no key", "invalid"])
async def test_state_that_breaks_its_contract_is_not_written(state, content):
    shop = state()

    with pytest.raises(ContractError):
        await shop.put(Stock(**content))

    assert not any(entry.written for entry in shop.entries)

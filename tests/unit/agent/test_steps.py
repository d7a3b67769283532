import gc
import weakref
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel
from shop.v1.events_pb2 import OrderPlaced

from mesh.agent.codec import digest
from mesh.agent.steps import EffectUnsettled, Steps
from mesh.errors import Reject, Retry, UsageError


class MemoryJournal:
    """Keeps results and intents, as they survive a process."""

    def __init__(self):
        self.results = {}
        self.intents = set()
        self.words = []

    async def recall(self, step):
        return self.results.get(step.SerializeToString())

    async def record(self, step, type_name, data):
        self.words.append("result")
        return self.results.setdefault(step.SerializeToString(), (type_name, data))

    async def intends(self, step):
        return step.SerializeToString() in self.intents

    async def begin(self, step):
        self.words.append("intent")
        self.intents.add(step.SerializeToString())
        return True

    async def call_off(self, step):
        self.words.append("called off")
        self.intents.remove(step.SerializeToString())


class Quote(BaseModel):
    price: float
    tags: set[str] = set()


@dataclass
class Offer:
    price: float


@pytest.fixture
def journal():
    return MemoryJournal()


@pytest.fixture
def run(journal):
    """Begins a run of the handler: the first one, or one after a redelivery."""
    return lambda: Steps(journal, "seller//erp/e1")


def counting(function):
    """The function, and the list of the arguments that it was called with."""
    calls = []

    def counted(*args, **kwargs):
        calls.append((args, kwargs))
        return function(*args, **kwargs)

    return counted, calls


async def test_a_step_is_called_once_however_often_the_handler_runs(run):
    ask, calls = counting(lambda question: f"{question}!")

    answers = [await run().step("ask", ask, ("why",), {}) for _ in range(3)]

    assert answers == ["why!"] * 3
    assert calls == [(("why",), {})]


async def test_other_arguments_another_name_and_another_occurrence_are_other_steps(run):
    ask, calls = counting(lambda question: question)
    steps = run()

    for name, question in [("ask", "why"), ("ask", "why"), ("ask", "how"), ("tell", "why")]:
        await steps.step(name, ask, (question,), {})

    assert len(calls) == 4


async def test_a_coroutine_function_is_a_step_too(run):
    async def ask():
        return 42

    assert await run().step("ask", ask, (), {}) == 42


def quote() -> Quote:
    return Quote(price=1.5, tags={"new"})


def offer() -> Offer:
    return Offer(1.5)


def quotes() -> list[Quote]:
    return [quote()]


def order() -> OrderPlaced:
    return OrderPlaced(order_id="7")


def nothing() -> None: ...


def plain():
    return {"a": [1, None, float("inf")]}


@pytest.mark.parametrize("function", [quote, offer, quotes, order, nothing, plain])
async def test_a_result_is_the_same_in_the_first_run_and_in_a_later_one(run, function):
    first, later = [await run().step("ask", function, (), {}) for _ in range(2)]

    assert first == later == function()
    assert type(first) is type(later) is type(function())


@pytest.mark.parametrize("result", [object(), [open]], ids=["object", "function"])
async def test_a_result_that_cannot_be_stored_is_refused(run, result):
    with pytest.raises(UsageError, match="the result of step 'ask' cannot be stored") as refused:
        await run().step("ask", lambda: result, (), {})

    assert refused.value.code == "step_result"


async def test_an_argument_that_cannot_be_stored_is_refused_before_the_call(run):
    ask, calls = counting(lambda client: 1)

    with pytest.raises(UsageError, match="argument 0 of step 'ask' cannot be serialized") as refused:
        await run().step("ask", ask, (object(),), {})

    assert (refused.value.code, refused.value.object, calls) == ("step_argument", "ask", [])


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=3), VALUES, max_size=4))
def test_keys_count_in_no_particular_order(value):
    backwards = dict(reversed(value.items()))

    assert digest("ask", (value,), value) == digest("ask", (backwards,), backwards)


def test_members_of_a_set_count_in_no_particular_order():
    """Two processes have the words of a set in different orders: an effect would happen twice."""
    one, other = {0, 8}, {8, 0}
    assert list(one) != list(other)

    assert digest("ask", (one, [Quote(price=1, tags={"a"}), one]), {}) == digest(
        "ask", (other, [Quote(price=1, tags={"a"}), other]), {}
    )


def test_different_arguments_have_different_digests():
    messages = OrderPlaced(order_id="7"), OrderPlaced(order_id="8")
    arguments = [
        (),
        (1,),
        ("1",),
        (1, 2),
        ([1, 2],),
        (None,),
        (Quote(price=1),),
        *[(m,) for m in messages],
        ([messages[0]],),
    ]

    assert len({digest("ask", args, {}) for args in arguments}) == len(arguments)
    assert digest("ask", (1,), {}) != digest("ask", (), {"a": 1}) != digest("ask", (), {"b": 1})


async def test_a_function_that_was_called_is_not_kept_alive(run):
    def handle():
        def ask() -> int:
            return 42

        return ask

    ask = handle()
    await run().step("ask", ask, (), {})
    alive = weakref.ref(ask)
    del ask
    gc.collect()

    assert alive() is None


async def pay(amount, idempotency_key):
    return f"{amount} by {idempotency_key}"


async def test_an_effect_writes_its_intent_down_before_the_call_and_happens_once(run, journal):
    async def noted(amount, idempotency_key):
        journal.words.append("call")
        return await pay(amount, idempotency_key)

    first, later = [await run().effect("pay", noted, (5,), {}, None) for _ in range(2)]

    assert journal.words == ["intent", "call", "result"]
    assert first == later
    assert first.startswith("5 by seller//erp/e1/pay/")


async def break_down(**_):
    raise ConnectionError


async def test_an_effect_that_may_have_happened_is_not_repeated_blindly(run):
    with pytest.raises(ConnectionError):
        await run().effect("pay", break_down, (), {}, None)

    with pytest.raises(
        EffectUnsettled, match="nobody knows whether it happened: find out by its idempotency key"
    ) as open_:
        await run().effect("pay", pay, (), {}, None)

    assert (open_.value.code, open_.value.object) == ("effect_unsettled", "pay")


async def test_an_effect_that_happened_is_settled_by_asking_with_the_same_key(run, journal):
    asked = []
    with pytest.raises(ConnectionError):
        await run().effect("pay", break_down, (), {}, None)

    async def receipt(key):
        asked.append(key)
        return "receipt"

    assert await run().effect("pay", break_down, (), {}, receipt) == "receipt"
    assert await run().effect("pay", break_down, (), {}, receipt) == "receipt"
    assert len(asked) == 1


async def test_an_effect_that_did_not_happen_is_made_after_asking(run):
    keys = []
    with pytest.raises(ConnectionError):
        await run().effect("pay", break_down, (), {}, None)

    async def now(idempotency_key):
        keys.append(idempotency_key)
        return "paid"

    assert await run().effect("pay", now, (), {}, keys.append) == "paid"
    assert keys[0] == keys[1]


@pytest.mark.parametrize("error", [Reject("no money"), Retry("bank is closed", after=1)], ids=["reject", "retry"])
async def test_an_effect_that_says_that_it_did_not_happen_may_be_made_later(run, journal, error):
    async def refuse(**_):
        raise error

    with pytest.raises(type(error)):
        await run().effect("pay", refuse, (), {}, None)

    assert journal.words == ["intent", "called off"]
    assert (await run().effect("pay", pay, (5,), {}, None)).startswith("5 by")

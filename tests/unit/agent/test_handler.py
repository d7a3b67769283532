from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Optional, Union

import pytest
from google.protobuf.message import Message
from shop.v1.events_pb2 import Address, OrderAccepted, OrderPlaced, OrderRefused, PackOrder, Stock

from mesh import Context
from mesh.agent.deliver import Start
from mesh.errors import ContractError, UsageError


def names(types):
    return [t.descriptor.name for t in types]


@pytest.mark.parametrize(
    ("annotation", "emits"),
    [
        (None, []),
        (OrderAccepted, ["OrderAccepted"]),
        (OrderAccepted | OrderRefused, ["OrderAccepted", "OrderRefused"]),
        (OrderAccepted | None, ["OrderAccepted"]),
        (Optional[OrderAccepted], ["OrderAccepted"]),  # noqa: UP045 - people still write it
        (Union[OrderAccepted, OrderRefused, None], ["OrderAccepted", "OrderRefused"]),  # noqa: UP007
        (tuple[OrderAccepted, PackOrder], ["OrderAccepted", "PackOrder"]),
        (tuple[OrderAccepted, ...], ["OrderAccepted"]),
        (list[OrderAccepted], ["OrderAccepted"]),
        (list[OrderAccepted | OrderRefused], ["OrderAccepted", "OrderRefused"]),
        (Iterable[OrderAccepted] | None, ["OrderAccepted"]),
        ("OrderAccepted | list[PackOrder]", ["OrderAccepted", "PackOrder"]),
    ],
)
def test_the_return_annotation_declares_what_is_emitted(handler_of, annotation, emits):
    async def handle(event: OrderPlaced, ctx: Context):
        pass

    handle.__annotations__["return"] = annotation

    assert names(handler_of(handle).emits) == emits


def test_a_handler_without_a_return_annotation_emits_nothing(handler_of):
    def handle(event: OrderPlaced, ctx):
        pass

    assert handler_of(handle).emits == ()


def test_emits_adds_to_the_return_annotation_and_nothing_counts_twice(handler_of):
    def handle(event: OrderPlaced, ctx: Context) -> OrderAccepted:
        pass

    assert names(handler_of(handle, emits=[OrderRefused, OrderAccepted]).emits) == ["OrderAccepted", "OrderRefused"]


def test_annotations_may_be_strings(handler_of):
    def handle(event: "OrderPlaced", ctx: "Context") -> "OrderAccepted | None":
        pass

    handler = handler_of(handle)

    assert names((handler.event, *handler.emits)) == ["OrderPlaced", "OrderAccepted"]


def test_the_event_may_be_named_in_the_decorator(handler_of):
    def handle(event, ctx) -> PackOrder:
        pass

    handler = handler_of(handle, OrderPlaced)

    assert names((handler.event, *handler.emits)) == ["OrderPlaced", "PackOrder"]


def test_a_command_is_handled_like_an_event(handler_of):
    def handle(command: PackOrder, ctx: Context) -> None:
        pass

    assert handler_of(handle).event.label == "shop.pack_order"


def test_a_method_with_further_optional_parameters_is_a_handler(handler_of):
    class Desk:
        async def handle(self, event: OrderPlaced, ctx: Context, retries: int = 3, **options: int) -> None:
            pass

    assert handler_of(Desk().handle).is_async


def test_options_have_defaults(handler_of):
    def handle(event: OrderPlaced, ctx: Context) -> None:
        pass

    handler = handler_of(handle)

    assert (handler.concurrency, handler.timeout, handler.max_attempts) == (32, 30.0, 5)
    assert (handler.start, handler.has_own_durable, handler.is_async) == (None, False, False)


def test_options_are_kept(handler_of):
    def handle(event: OrderPlaced, ctx: Context) -> None:
        pass

    handler = handler_of(handle, concurrency=1, timeout=timedelta(minutes=2), max_attempts=7, isolated=True)

    assert (handler.concurrency, handler.timeout, handler.max_attempts) == (1, 120.0, 7)
    assert handler.has_own_durable


def test_a_start_of_its_own_gives_a_handler_a_durable_of_its_own(handler_of):
    def handle(event: OrderPlaced, ctx: Context) -> None:
        pass

    handler = handler_of(handle, deliver=datetime(2026, 11, 1, tzinfo=UTC))

    assert handler.has_own_durable
    assert handler.start == Start("by_start_time", datetime(2026, 11, 1, tzinfo=UTC))


def no_parameter(): ...
def no_context(event: OrderPlaced): ...
def one_too_many(event: OrderPlaced, ctx: Context, more: int): ...
def keyword_context(event: OrderPlaced, *, ctx: Context): ...
def more_by_keyword(event: OrderPlaced, ctx: Context, *, more: int): ...
def only_stars(*args: OrderPlaced, **kwargs: Context): ...
def no_annotation(event, ctx): ...
def wrong_annotation(event: dict, ctx: Context): ...
def any_message(event: Message, ctx: Context): ...
def two_events(event: OrderPlaced | PackOrder, ctx: Context): ...
def unknown_name(event: "OrderPlacd", ctx: Context): ...  # noqa: F821
def unknown_attribute(event: "datetime.OrderPlaced", ctx: Context): ...
def broken_annotation(event: "Order Placed", ctx: Context): ...  # noqa: F722
def handles_state(event: Stock, ctx: Context): ...
def returns_state(event: OrderPlaced, ctx: Context) -> Stock: ...
def returns_text(event: OrderPlaced, ctx: Context) -> str: ...
def returns_anything(event: OrderPlaced, ctx: Context) -> Any: ...
def returns_any_message(event: OrderPlaced, ctx: Context) -> Message: ...
def returns_list_of_what(event: OrderPlaced, ctx: Context) -> list: ...
def returns_dict(event: OrderPlaced, ctx: Context) -> dict[str, OrderAccepted]: ...
def returns_stream(event: OrderPlaced, ctx: Context) -> AsyncIterator[OrderAccepted]: ...


async def yields(event: OrderPlaced, ctx: Context):
    yield OrderAccepted()


@pytest.mark.parametrize(
    "function",
    [
        no_parameter, no_context, one_too_many, keyword_context, more_by_keyword, only_stars, no_annotation,
        wrong_annotation, any_message, two_events, unknown_name, unknown_attribute, broken_annotation, handles_state,
        returns_state, returns_text, returns_anything, returns_any_message, returns_list_of_what, returns_dict,
        returns_stream, yields,
    ],
)  # fmt: skip
def test_a_signature_that_cannot_work_is_refused_at_its_declaration(agent, function):
    with pytest.raises(UsageError) as refused:
        agent.on(function)

    assert refused.value.code == "handler_signature"
    assert refused.value.object == function.__name__
    assert f"handler {function.__name__} " in str(refused.value)
    assert refused.value.cure
    assert agent.handlers == ()


@pytest.mark.parametrize(
    "options",
    [
        {"concurrency": 0}, {"concurrency": -1}, {"timeout": 0}, {"timeout": timedelta(0)}, {"timeout": -2.5},
        {"timeout": float("inf")}, {"timeout": float("nan")}, {"max_attempts": 0}, {"emits": [int]}, {"emits": [Stock]},
        {"emits": ["OrderAccepted"]}, {"emits": OrderAccepted},
    ],
)  # fmt: skip
def test_an_option_that_cannot_work_is_refused_at_its_declaration(agent, options):
    def handle(event: OrderPlaced, ctx: Context) -> None:
        pass

    with pytest.raises(UsageError, match=r"handler \S*handle ") as refused:
        agent.on(**options)(handle)

    assert refused.value.cure
    assert agent.handlers == ()


@pytest.mark.parametrize("thing", ["order_placed", 7, dict, partial(no_context)])
def test_what_is_no_function_is_refused(agent, thing):
    with pytest.raises(UsageError, match="must take an event and a context"):
        agent.on(thing)


def test_a_message_that_is_no_event_is_refused_with_the_cure_for_its_contract(agent):
    def handle(event: Address, ctx: Context) -> None:
        pass

    with pytest.raises(ContractError, match=r"option \(mesh\.v1\.event\)"):
        agent.on(handle)


def test_what_is_emitted_must_be_in_the_contract_too(agent):
    def handle(event: OrderPlaced, ctx: Context) -> Address:
        pass

    with pytest.raises(ContractError, match=r"shop\.v1\.Address"):
        agent.on(handle)

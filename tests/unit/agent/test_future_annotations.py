from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from shop.v1.events_pb2 import OrderAccepted, OrderPlaced

from mesh import Agent, Context, UsageError

if TYPE_CHECKING:
    from shop.v1.events_pb2 import OrderRefused


def test_a_handler_may_stand_in_a_module_with_postponed_annotations():
    agent = Agent("seller")

    @agent.on
    async def accept(event: OrderPlaced, ctx: Context) -> OrderAccepted | None:
        pass

    [handler] = agent.handlers
    assert [t.label for t in (handler.event, *handler.emits)] == ["shop.order_placed", "shop.order_accepted"]


def test_a_name_that_only_the_type_checker_sees_is_refused():
    async def refuse(event: OrderPlaced, ctx: Context) -> OrderRefused:
        pass

    with pytest.raises(UsageError, match="name 'OrderRefused' is not defined: import the name at module level"):
        Agent("seller").on(refuse)

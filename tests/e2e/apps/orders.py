"""Agents that the fault tests run in processes of their own."""

import asyncio
import os

from shop.v1.events_pb2 import OrderAccepted, OrderPlaced, Stock

from mesh import Agent, Context

agent = Agent("clerk")


@agent.on(concurrency=16)
async def accept(event: OrderPlaced, ctx: Context) -> OrderAccepted:
    await asyncio.sleep(0.02)
    return OrderAccepted(order_id=event.order_id, quantity=event.quantity)


deadly = Agent("deadly")


@deadly.on(concurrency=32, max_attempts=3)
async def die(event: OrderPlaced, ctx: Context) -> OrderAccepted:
    if event.order_id == "killer":
        await asyncio.sleep(0.3)  # so that all others are in flight beside it
        os._exit(1)
    await asyncio.sleep(2)
    return OrderAccepted(order_id=event.order_id)


storekeeper = Agent("storekeeper")


@storekeeper.on(concurrency=16)
async def reserve(event: OrderPlaced, ctx: Context) -> OrderAccepted:
    stock = await ctx.state.get_or_new(Stock, event.quantity)
    stock.reserved += 1
    await ctx.state.put(stock)
    return OrderAccepted(order_id=event.order_id)

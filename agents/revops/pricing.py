"""Pricing: which discount does a lead get?

A discount is spent where it can change the outcome: on leads that are neither convinced already nor out of reach.
"""

from typing import NamedTuple

from mesh import Agent, Context
from revops.v1.events_pb2 import LeadScored, OfferPriced

LIST_PRICE_CENTS = 120_00
CURRENCY = "EUR"


class Band(NamedTuple):
    """From `floor` (score, 0..1) upwards, this discount and why."""

    floor: float
    discount_percent: int
    reason: str


BANDS = [
    Band(0.40, 0, "likely to convert at the list price"),
    Band(0.15, 10, "a small discount can tip the balance"),
    Band(0.05, 20, "only a clear discount can win this lead"),
    Band(0.00, 0, "too unlikely for a discount to pay"),
]

agent = Agent("pricing", description="Sets the discount of the offer for a scored lead")


@agent.on
async def price(event: LeadScored, ctx: Context) -> OfferPriced:
    return offer(event)


def offer(lead: LeadScored) -> OfferPriced:
    band = next(band for band in BANDS if lead.score >= band.floor)
    return OfferPriced(
        lead_id=lead.lead_id,
        score=lead.score,
        discount_percent=band.discount_percent,
        price_cents=LIST_PRICE_CENTS * (100 - band.discount_percent) // 100,
        currency=CURRENCY,
        reason=band.reason,
    )

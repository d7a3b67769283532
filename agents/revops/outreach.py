"""Outreach: is a call worth its cost, and what does it say?"""

from mesh import Agent, Context, Reject
from revops.v1.events_pb2 import LeadContacted, LeadSkipped, OfferPriced

CALL_COST_CENTS = {"EUR": 6_00}

agent = Agent("outreach", description="Contacts the leads whose expected revenue exceeds the cost of a call")


@agent.on
async def reach_out(event: OfferPriced, ctx: Context) -> LeadContacted | LeadSkipped:
    if event.currency not in CALL_COST_CENTS:
        raise Reject(f"no call cost is known in {event.currency}")
    return decide(event)


def decide(offer: OfferPriced) -> LeadContacted | LeadSkipped:
    cost = CALL_COST_CENTS[offer.currency]
    expected = round(offer.score * offer.price_cents)
    figures = f"expected revenue {money(expected, offer)}, a call costs {money(cost, offer)}"
    if expected <= cost:
        return LeadSkipped(lead_id=offer.lead_id, reason=figures)
    return LeadContacted(lead_id=offer.lead_id, message=message(offer), reason=figures)


def message(offer: OfferPriced) -> str:
    text = f"Your savings account for {money(offer.price_cents, offer)} in the first year"
    return f"{text}, {offer.discount_percent} % off." if offer.discount_percent else f"{text}."


def money(cents: int, offer: OfferPriced) -> str:
    return f"{cents / 100:.2f} {offer.currency}"

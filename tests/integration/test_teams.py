"""The example teams, their real handlers, on a real server."""

import asyncio
from contextlib import AsyncExitStack

from support import eventually
from teams import NEWSROOM, REVOPS

from newsroom import editor, fact_desk, headline_desk, triage
from newsroom.sample import stories
from newsroom.v1.events_pb2 import StoryPublished
from newsroom.v1.state_pb2 import StoryDesk
from revops import lead_scorer, outreach, pricing
from revops.sample import leads
from revops.v1.events_pb2 import LeadContacted, LeadScored, LeadSkipped, OfferPriced

REVOPS_AGENTS = [lead_scorer.agent, pricing.agent, outreach.agent]
DESKS = [triage.agent, fact_desk.agent, headline_desk.agent]
NEWSROOM_AGENTS = [*DESKS, editor.agent]


async def emit_all(stage, events):
    await asyncio.gather(*(stage.mesh.emit(event) for event in events))


async def ended(stage, domain, agents):
    """Waits until each agent has settled everything; `agents` stand in the order in which they get their work."""
    for agent in agents:
        await eventually(lambda name=agent.name: stage.settled(domain, name))


async def decoded(stage, name, message):
    """The stored events of a name, by lead."""
    events = [message.FromString(stored.data) for stored in await stage.messages("revops", f"evt.{name}.>")]
    return {event.lead_id: event for event in events}


async def test_every_lead_is_scored_priced_and_contacted_or_skipped_exactly_once(stage):
    async with stage.running(*REVOPS_AGENTS):
        await emit_all(stage, leads(100))
        await ended(stage, "revops", REVOPS_AGENTS)

    await REVOPS.assert_kept(stage, {str(number) for number in range(1, 101)})


async def test_what_the_team_commits_is_what_its_functions_say(stage):
    async with stage.running(*REVOPS_AGENTS):
        await emit_all(stage, leads(30))
        await ended(stage, "revops", REVOPS_AGENTS)

    scored = await decoded(stage, "lead_scored", LeadScored)
    priced = await decoded(stage, "offer_priced", OfferPriced)
    contacted = await decoded(stage, "lead_contacted", LeadContacted)
    skipped = await decoded(stage, "lead_skipped", LeadSkipped)
    assert scored == {lead.lead_id: lead_scorer.predict(lead) for lead in leads(30)}
    assert priced == {lead_id: pricing.offer(lead) for lead_id, lead in scored.items()}
    assert contacted | skipped == {lead_id: outreach.decide(offer) for lead_id, offer in priced.items()}


async def test_every_story_is_decided_once_when_its_parts_arrive_at_the_same_time(stage):
    async with AsyncExitStack() as workers:
        for _ in range(2):
            await workers.enter_async_context(stage.running(*NEWSROOM_AGENTS))
        await emit_all(stage, stories(60))
        await ended(stage, "newsroom", NEWSROOM_AGENTS)

    await NEWSROOM.assert_kept(stage, {str(number) for number in range(1, 61)})
    desks = [StoryDesk.FromString(stored.data) for stored in await stage.messages("newsroom", "state.story_desk.>")]
    assert len(desks) == 60
    assert all(d.closed and d.HasField("triaged") and d.HasField("facts") and d.HasField("headline") for d in desks)


async def test_stories_that_waited_for_the_editor_are_decided_once_by_two_replicas(stage):
    async with stage.running(*DESKS):
        await emit_all(stage, stories(40))
        await ended(stage, "newsroom", DESKS)
    async with stage.running(editor.agent), stage.running(editor.agent):
        await ended(stage, "newsroom", [editor.agent])

    await NEWSROOM.assert_kept(stage, {str(number) for number in range(1, 41)})


async def test_a_part_that_is_handed_in_again_changes_nothing(stage):
    (story,) = stories(1)
    async with stage.running(*NEWSROOM_AGENTS):
        await stage.mesh.emit(story)
        await stage.mesh.wait_for(StoryPublished, key=story.story_id)
        await stage.mesh.emit(triage.assess(story))
        await ended(stage, "newsroom", NEWSROOM_AGENTS)

    counts = await stage.counts("newsroom")
    assert (counts["evt.story_triaged"], counts["evt.story_published"]) == (2, 1)
    assert "evt.story_spiked" not in counts


async def test_a_lead_that_is_emitted_twice_with_the_same_id_is_handled_once(stage):
    (lead,) = leads(1)
    async with stage.running(*REVOPS_AGENTS):
        first = await stage.mesh.emit(lead, id="lead-1")
        second = await stage.mesh.emit(lead, id="lead-1")
        await ended(stage, "revops", REVOPS_AGENTS)

    assert (first.duplicate, second.duplicate) == (False, True)
    await REVOPS.assert_kept(stage, {"1"})

"""Editor: waits for the three desks and decides whether the story is published.

The desks work at the same time and hand in in any order. What has arrived lies in the state `StoryDesk`, which is
committed together with the editor's output: whichever part completes the desk, the story is decided exactly once.
"""

from mesh import Agent, Context
from newsroom.v1.events_pb2 import (
    FactsChecked,
    HeadlineWritten,
    Priority,
    StoryPublished,
    StorySpiked,
    StoryTriaged,
)
from newsroom.v1.state_pb2 import StoryDesk

agent = Agent("editor", description="Publishes or spikes a story once every desk has handed in")

Outcome = StoryPublished | StorySpiked | None


@agent.on
async def triaged(event: StoryTriaged, ctx: Context) -> Outcome:
    desk = await ctx.state.get_or_new(StoryDesk, event.story_id)
    desk.triaged.CopyFrom(event)
    outcome = settle(desk)
    await ctx.state.put(desk)
    return outcome


@agent.on
async def checked(event: FactsChecked, ctx: Context) -> Outcome:
    desk = await ctx.state.get_or_new(StoryDesk, event.story_id)
    desk.facts.CopyFrom(event)
    outcome = settle(desk)
    await ctx.state.put(desk)
    return outcome


@agent.on
async def written(event: HeadlineWritten, ctx: Context) -> Outcome:
    desk = await ctx.state.get_or_new(StoryDesk, event.story_id)
    desk.headline.CopyFrom(event)
    outcome = settle(desk)
    await ctx.state.put(desk)
    return outcome


def settle(desk: StoryDesk) -> Outcome:
    """Decides a complete desk and closes it; a part that is handed in again never decides a story twice."""
    outcome = None if desk.closed else decide(desk)
    desk.closed = desk.closed or outcome is not None
    return outcome


def decide(desk: StoryDesk) -> Outcome:
    """Returns None until every desk has handed in."""
    if not (desk.HasField("triaged") and desk.HasField("facts") and desk.HasField("headline")):
        return None
    if objection := objection_to(desk):
        return StorySpiked(story_id=desk.story_id, reason=objection)
    return StoryPublished(
        story_id=desk.story_id,
        desk=desk.triaged.desk,
        priority=desk.triaged.priority,
        headline=desk.headline.headline,
        standfirst=desk.headline.standfirst,
        agency=desk.headline.agency,
    )


def objection_to(desk: StoryDesk) -> str:
    """Why the story must not be published; empty when it may."""
    if not desk.headline.headline:
        return "nothing of the title is usable"
    for claim in desk.facts.claims:
        if claim.kind == FactsChecked.KIND_QUOTE and not claim.source:
            return f"nobody is named for the quotation {claim.text}"
    if desk.triaged.priority == Priority.PRIORITY_URGENT and desk.facts.verdict == FactsChecked.VERDICT_UNSOURCED:
        return "urgent news with no source for any of its claims"
    return ""

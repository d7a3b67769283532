"""Headline desk: makes a filed story readable."""

from mesh import Agent, Context
from newsroom import wire
from newsroom.v1.events_pb2 import HeadlineWritten, StoryFiled

LIMIT = 72

agent = Agent("headline-desk", description="Writes the headline and the paragraph under it")


@agent.on
async def write(event: StoryFiled, ctx: Context) -> HeadlineWritten:
    return compose(event)


def compose(story: StoryFiled) -> HeadlineWritten:
    title, body, agency = wire.read(story)
    return HeadlineWritten(story_id=story.story_id, headline=shorten(title), standfirst=body, agency=agency)


def shorten(title: str) -> str:
    """Cuts at a word, so that the ellipsis still fits the limit."""
    if len(title) <= LIMIT:
        return title
    cut = title[:LIMIT]
    return (cut.rpartition(" ")[0] or cut[:-1]).rstrip(" ,;:-–—") + "…"

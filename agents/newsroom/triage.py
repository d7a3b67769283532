"""Triage: which desk takes the story, and does it have to drop everything else?"""

import re

from mesh import Agent, Context
from newsroom import wire
from newsroom.v1.events_pb2 import Desk, Priority, StoryFiled, StoryTriaged

DESKS = {1: Desk.DESK_WORLD, 2: Desk.DESK_SPORTS, 3: Desk.DESK_BUSINESS, 4: Desk.DESK_SCI_TECH}
SIGNAL = re.compile(
    r"\b(attack|bomb|crash|dead|deadly|died|evacuat|explosion|hostage|hurricane|kill|quake|resign|terror|violence)"
    r"(?:e?[ds]|ing|ions?|ers?)?\b",
    re.IGNORECASE,
)

agent = Agent("triage", description="Gives a filed story to a desk and says how urgent it is")


@agent.on
async def triage(event: StoryFiled, ctx: Context) -> StoryTriaged:
    return assess(event)


def assess(story: StoryFiled) -> StoryTriaged:
    """World news with a signal in the title is urgent, and so is any story with two different signals."""
    copy = wire.read(story)
    desk = DESKS[story.topic]
    in_title = signals_of(copy.title)
    signals = signals_of(f"{copy.title} {copy.body}")
    urgent = len(signals) > 1 or (desk == Desk.DESK_WORLD and in_title)
    return StoryTriaged(
        story_id=story.story_id,
        desk=desk,
        priority=Priority.PRIORITY_URGENT if urgent else Priority.PRIORITY_ROUTINE,
        signals=signals,
    )


def signals_of(text: str) -> list[str]:
    return list(dict.fromkeys(word.lower() for word in SIGNAL.findall(text)))

"""Made-up wire stories to try the team with, with the blemishes of real wire copy."""
# ruff: noqa: PLR2004, S311 - the figures shape a made-up population that anybody may foresee

import random

from newsroom.v1.events_pb2 import StoryFiled

# Topic, title, summary; `{n}` is a number of the story.
TEMPLATES = [
    (1, "Quake Kills {n} in Mountain Province", "A quake killed {n} people on Monday, rescue officials said."),
    (1, "Envoys Meet Over River Treaty", "Envoys of {n} towns met on Tuesday to share the river's water."),
    (1, "Flood Leaves {n} Dead", "At least {n} people died when the river burst its banks on Sunday."),
    (2, "Harbour City Win Cup Final", "Harbour City won Saturday's final 2-1 with a goal in minute {n}."),
    (2, "Captain to Miss Opener", 'The captain misses the opener on Friday. "My knee needs {n} more days," he said.'),
    (3, "Tin Price at Record", "Tin rose {n} percent to $36,400 a tonne on Wednesday, analysts said."),
    (3, "Grocer's Profit Up", "Greenlane Foods said profit rose to $4.{n} billion, its best year since 1998."),
    (4, "Probe Sends First Pictures", "The probe sent {n} views of a comet's tail, according to the space agency."),
    (4, "Chip Maker Halves Power Draw of Its Smallest Processor for Watches, Phones and Hearing Aids",
     "The new chip draws {n} percent less power. It ships in March."),
]  # fmt: skip
AGENCIES = ["AP", "AFP", "Reuters"]


def stories(count: int, seed: int = 7) -> list[StoryFiled]:
    """Returns `count` valid stories with the ids 1, 2, …; the same seed gives the same stories."""
    rng = random.Random(seed)
    return [story(str(number), rng) for number in range(1, count + 1)]


def story(story_id: str, rng: random.Random) -> StoryFiled:
    topic, title, summary = rng.choice(TEMPLATES)
    number = rng.randint(11, 99)
    title, summary = title.format(n=number), blemish(summary.format(n=number), rng)
    if rng.random() < 0.6:
        agency = rng.choice(AGENCIES)
        title, summary = f"{title} ({agency})", f"{agency} - {summary}"
    return StoryFiled(story_id=story_id, topic=topic, title=title, summary=summary)


def blemish(text: str, rng: random.Random) -> str:
    """Spoils a text the way wires do: entities without their `&`, and a line break that became a backslash."""
    text = text.replace("'", " #39;").replace("$", "\\$")
    words = text.split(" ")
    cut = rng.randrange(1, len(words))
    return " ".join(words[:cut]) + "\\" + " ".join(words[cut:])

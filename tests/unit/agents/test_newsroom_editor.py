import csv
from itertools import permutations

import protovalidate
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from newsroom import editor, fact_desk, headline_desk, triage
from newsroom.sample import stories
from newsroom.v1.events_pb2 import StoryFiled, StoryPublished, StorySpiked
from newsroom.v1.state_pb2 import StoryDesk

QUAKE = StoryFiled(
    story_id="7", topic=1, title="Quake Kills 12 (AP)", summary=r"AP - A quake killed 12\people, police said."
)


def parts(story):
    """What the three desks hand in, as one part of the desk each."""
    return [
        StoryDesk(story_id=story.story_id, triaged=triage.assess(story)),
        StoryDesk(story_id=story.story_id, facts=fact_desk.examine(story)),
        StoryDesk(story_id=story.story_id, headline=headline_desk.compose(story)),
    ]


def outcomes(arriving):
    desk = StoryDesk()
    for part in arriving:
        desk.MergeFrom(part)
        yield editor.settle(desk)


def decided(story):
    *_, outcome = outcomes(parts(story))
    return outcome


def test_a_story_with_everything_in_order_is_published():
    assert decided(QUAKE) == StoryPublished(
        story_id="7",
        desk="DESK_WORLD",
        priority="PRIORITY_URGENT",
        headline="Quake Kills 12",
        standfirst="A quake killed 12 people, police said.",
        agency="AP",
    )


@pytest.mark.parametrize("arriving", list(permutations(parts(QUAKE))))
def test_the_part_that_completes_the_desk_decides_the_story_in_any_order(arriving):
    first, second, third = outcomes(arriving)

    assert (first, second) == (None, None)
    assert third == decided(QUAKE)


@settings(deadline=None)
@given(st.permutations([0, 0, 1, 1, 2, 2]))
def test_a_part_that_is_handed_in_again_never_decides_a_story_twice(order):
    arriving = [parts(QUAKE)[number] for number in order]

    assert sum(outcome is not None for outcome in outcomes(arriving)) == 1


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"title": "(AP)"}, "nothing of the title is usable"),
        (
            {"summary": '"We ran for it," she said.', "title": "Quake"},
            'nobody is named for the quotation "We ran for it,"',
        ),
        ({"summary": "It killed 12.", "title": "Quake"}, "urgent news with no source for any of its claims"),
    ],
)
def test_a_story_that_must_not_be_published_is_spiked_with_the_reason(changes, reason):
    story = StoryFiled()
    story.CopyFrom(QUAKE)
    story.MergeFrom(StoryFiled(**changes))

    assert decided(story) == StorySpiked(story_id="7", reason=reason)


def assert_decided_validly(filed):
    for story in filed:
        for part in parts(story):
            protovalidate.validate(part)
        protovalidate.validate(decided(story))


def test_sample_stories_are_published_and_spiked():
    sample = stories(300)

    assert_decided_validly(sample)
    assert {type(decided(story)) for story in sample} == {StoryPublished, StorySpiked}


@settings(deadline=None)
@given(st.integers(1, 4), st.text(min_size=1), st.text(min_size=1))
def test_any_story_is_decided(topic, title, summary):
    assert_decided_validly([StoryFiled(story_id="1", topic=topic, title=title, summary=summary)])


def test_every_real_story_is_decided(real_data):
    with real_data("ag-news.csv").open(newline="") as file:
        rows = [
            StoryFiled(story_id=str(n), topic=int(t), title=a, summary=b)
            for n, (t, a, b) in enumerate(csv.reader(file))
        ]

    for story in rows:
        protovalidate.validate(story)
    assert_decided_validly(rows)
    assert rows

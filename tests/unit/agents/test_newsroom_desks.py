import protovalidate
import pytest

from newsroom import fact_desk, headline_desk, triage, wire
from newsroom.sample import stories
from newsroom.v1.events_pb2 import Desk, FactsChecked, Priority, StoryFiled


def filed(title="Rates Unchanged", summary="The central bank left its rates unchanged.", topic=3):
    return StoryFiled(story_id="1", topic=topic, title=title, summary=summary)


@pytest.mark.parametrize(
    ("raw", "repaired"),
    [
        (r"dwindling\band of\\nomads", "dwindling band of nomads"),
        (r"a \$150 ticket, or \\$2.6 billion", "a $150 ticket, or $2.6 billion"),
        ("It #39;s the river#39;s bank", "It's the river's bank"),
        ("past  #36;46 a barrel", "past $46 a barrel"),
        ("Apple #146;s “iPod”", "Apple’s “iPod”"),
        (" #147;Quiet #148; please", "“Quiet” please"),
        ("said  quot;no, quot; twice", 'said "no," twice'),
        ("''turned the corner. quot;", '"turned the corner."'),
        ("again  #151; this time", "again — this time"),
        ("Ch #225;vez", "Chávez"),
        ("AT&amp;T and R&D", "AT&T and R&D"),
        ("is nbsp;exciting  hellip;", "is exciting …"),
        ("Kmart Holding &lt;KMRT.O&gt;, a retailer", "Kmart Holding, a retailer"),
        ('end. &lt;FONT face="verdana', "end."),
        ("funds invest in stocks; others in bonds", "funds invest in stocks; others in bonds"),
        ("3 < 4, issue #7; and so on", "3 < 4, issue #7; and so on"),
    ],
)
def test_leftovers_of_the_wire_are_repaired(raw, repaired):
    assert wire.repair(raw) == repaired


@pytest.mark.parametrize(
    ("title", "summary", "expected"),
    [
        ("Oil Up (Reuters)", r"Reuters - Oil\rose.", ("Oil Up", "Oil rose.", "Reuters")),
        ("Oil Up", " NEW YORK (Reuters) - Oil rose.", ("Oil Up", "Oil rose.", "Reuters")),
        ("Phone Out", "OVERLAND PARK, Kan. (AP) -- It is out.", ("Phone Out", "It is out.", "AP")),
        ("Troops", "Canadian Press - AL-FASHER, Sudan (AP) - Dozens.", ("Troops", "Dozens.", "Canadian Press")),
        ("Rain", "CAPE TOWN - It rained.", ("Rain", "It rained.", "")),
        ("Rain", "BALTIMORE, Aug. 14 -- It rained.", ("Rain", "It rained.", "")),
        ("Comet (SPACE.com)", "SPACE.com - A comet.", ("Comet", "A comet.", "SPACE.com")),
        (
            "Testing (part 3 of 3)",
            "NASA is testing - again.",
            ("Testing (part 3 of 3)", "NASA is testing - again.", ""),
        ),
        ("(AP)", "AP - Nothing.", ("", "Nothing.", "AP")),
    ],
)
def test_credits_and_datelines_come_off_and_name_the_agency(title, summary, expected):
    assert wire.read(filed(title, summary)) == expected


def test_a_headline_is_cut_at_a_word_and_stays_within_its_limit():
    exact = "word " * 14 + "xy"

    assert headline_desk.shorten(exact) == exact
    assert headline_desk.shorten(exact + "z") == "word " * 13 + "word…"
    assert headline_desk.shorten("Long, " * 20).endswith("Long…")


def test_a_headline_of_one_endless_word_is_cut_inside_it():
    headline = headline_desk.shorten("x" * 500)

    assert len(headline) == headline_desk.LIMIT
    assert headline == "x" * 71 + "…"


def claims(text, agency=""):
    return [(claim.kind, claim.text, claim.source) for claim in fact_desk.extract(text, agency)]


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        ("Up for as much as $36bn now", FactsChecked.KIND_MONEY, "$36bn"),
        ("It costs $5.5 billion a year", FactsChecked.KIND_MONEY, "$5.5 billion"),
        ("It costs 2,000 euros a year", FactsChecked.KIND_MONEY, "2,000 euros"),
        ("Stocks fell 0.65 percent", FactsChecked.KIND_PERCENT, "0.65 percent"),
        ("A raise of 3%", FactsChecked.KIND_PERCENT, "3%"),
        ("It opens on Monday", FactsChecked.KIND_DATE, "Monday"),
        ("It opens on Aug. 14", FactsChecked.KIND_DATE, "Aug. 14"),
        ("Posted Aug 4", FactsChecked.KIND_DATE, "Aug 4"),
        ("The first since 1998", FactsChecked.KIND_DATE, "1998"),
        ("Some 150,000 people", FactsChecked.KIND_NUMBER, "150,000"),
        ("Some 5 million people", FactsChecked.KIND_NUMBER, "5 million"),
        ("A win of 92-73", FactsChecked.KIND_NUMBER, "92-73"),
        ('He sees "no way out of 2 wars" now', FactsChecked.KIND_QUOTE, '"no way out of 2 wars"'),
    ],
)
def test_a_checkable_claim_is_found_once_with_its_kind(text, kind, words):
    assert claims(text) == [(kind, words, "")]


@pytest.mark.parametrize("text", ["Nothing to see here.", 'A "jam band" plays.', "The AK-47s and the 4x100 relay."])
def test_words_that_nobody_could_check_are_no_claims(text):
    assert claims(text) == []


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("Mining Corp. said profit rose 5%.", "Mining Corp"),
        ("Sen. Maria Cantwell, D-Wash., said it costs 5%.", "Sen. Maria Cantwell"),
        ("Allstate, the insurer, on Monday said it lost.", "Allstate"),
        ("It killed 5, rescue officials said.", "rescue officials"),
        ("It sent 5 pictures, according to the space agency.", "space agency"),
        ('"We are out of tin," said Jane Doe.', "Jane Doe"),
        ('"We are out of tin," she said.', ""),
        ("On Monday said nobody anything.", ""),
        ("The company said it lost 5%.", ""),
    ],
)
def test_a_claim_has_the_source_that_its_sentence_names(text, source):
    assert {source} == {named for _, _, named in claims(text)}


def test_a_source_vouches_for_its_own_sentence_and_the_agency_for_the_others():
    text = "The U.S. Navy said 5 ships sailed. Another 7 stayed."

    assert claims(text, agency="AP") == [
        (FactsChecked.KIND_NUMBER, "5", "U.S. Navy"),
        (FactsChecked.KIND_NUMBER, "7", "AP"),
    ]


@pytest.mark.parametrize(
    ("summary", "verdict"),
    [
        ("Nothing happened.", FactsChecked.VERDICT_NO_CLAIMS),
        ("Jane Doe said 5 ships sailed.", FactsChecked.VERDICT_SOURCED),
        ("AP - Exactly 5 ships sailed.", FactsChecked.VERDICT_SOURCED),
        ("Jane Doe said 5 ships sailed. Another 7 stayed.", FactsChecked.VERDICT_PARTLY_SOURCED),
        ("Exactly 5 ships sailed.", FactsChecked.VERDICT_UNSOURCED),
    ],
)
def test_the_verdict_says_how_many_claims_have_a_source(summary, verdict):
    assert fact_desk.examine(filed(summary=summary)).verdict == verdict


@pytest.mark.parametrize(
    ("topic", "title", "summary", "priority"),
    [
        (1, "Quake in Province", "It shook.", Priority.PRIORITY_URGENT),
        (3, "Shares Crash", "They fell.", Priority.PRIORITY_ROUTINE),
        (3, "Shares Fall", "A bomb killed many.", Priority.PRIORITY_URGENT),
        (1, "Deadline Extended", "Diesel and diets are up.", Priority.PRIORITY_ROUTINE),
    ],
)
def test_alarming_words_make_a_story_urgent(topic, title, summary, priority):
    assert triage.assess(filed(title, summary, topic)).priority == priority


def test_every_topic_has_its_desk():
    desks = [triage.assess(filed(topic=topic)).desk for topic in (1, 2, 3, 4)]

    assert desks == [Desk.DESK_WORLD, Desk.DESK_SPORTS, Desk.DESK_BUSINESS, Desk.DESK_SCI_TECH]


def test_sample_stories_are_valid_and_the_same_for_the_same_seed():
    sample = stories(200)

    for story in sample:
        protovalidate.validate(story)
    assert len({story.story_id for story in sample}) == 200
    assert stories(200) == sample
    assert stories(200, seed=8) != sample

"""Fact desk: what in the story can be checked, and who vouches for it?

It checks the sourcing, not the world: whether every figure, date and quotation has somebody behind it.
"""

import re
from collections.abc import Iterator, Sequence

from mesh import Agent, Context
from newsroom import wire
from newsroom.v1.events_pb2 import FactsChecked, StoryFiled

DAY = r"(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day"
MONTH = (
    r"(?:(?:Jan|Febr)uary|March|April|May|June|July|August|(?:Sept|Nov|Dec)ember|October"
    r"|(?:Jan|Feb|Mar|Apr|Aug|Sept?|Oct|Nov|Dec)\.?)"
)
AMOUNT = r"(?<![\w-])\d+(?:[,.]\d+)*(?: (?:m|b|tr)illion)?"
ROLE = r"(?:[\w-]{1,20} )?(?:analysts|authorities|media|ministers|officials|police|researchers|scientists|sources)"
NAME = rf"(?!{DAY}|(?:A|He|I|In|It|On|She|The|They|We)\b)[A-Z][\w.'’&-]*(?: [A-Z][\w.'’&-]*){{0,4}}"

# The first kind that matches wins: a quotation keeps the numbers in it, money is more than a number.
CLAIM = re.compile(
    rf'(?P<QUOTE>"(?:[^"\s]+\s+){{2}}[^"]+"|“(?:[^”\s]+\s+){{2}}[^”]+”)'
    rf"|(?P<MONEY>[$€£]{AMOUNT}(?:bn|[BbKkMm])?\b|{AMOUNT} (?:dollars|euros|pounds))"
    rf"|(?P<PERCENT>{AMOUNT}(?:%| percent| per cent))"
    rf"|(?P<DATE>\b{DAY}|\b{MONTH} \d{{1,2}}\b|\b(?:19|20)\d\d\b)"
    rf"|(?P<NUMBER>{AMOUNT}(?:-\d+)*\b)"
)
SOURCE = re.compile(
    rf"according to (?:the )?([^,.;]+)"
    rf"|\b({NAME}|{ROLE})(?:, [^,]+,)?(?: on {DAY})? (?:announced|reported|said|says|told|warned|writes|wrote)\b"
    rf"|\b(?:said|says|writes|wrote) ({NAME})"
)
# A full stop after three lower-case letters ends a sentence; one in `U.S. Navy` or `Sen. Smith` does not.
SENTENCE_END = re.compile(r'(?<=[a-z\d]{3}[.!?])\s+(?=["“A-Z])')

agent = Agent("fact-desk", description="Looks for the source of every checkable claim in a filed story")


@agent.on
async def check(event: StoryFiled, ctx: Context) -> FactsChecked:
    return examine(event)


def examine(story: StoryFiled) -> FactsChecked:
    copy = wire.read(story)
    claims = list(extract(copy.body, agency=copy.agency))
    return FactsChecked(story_id=story.story_id, claims=claims, verdict=judge(claims))


def extract(text: str, agency: str) -> Iterator[FactsChecked.Claim]:
    """Yields the claims of a text, each with whoever its sentence names, else with the agency."""
    for sentence in SENTENCE_END.split(text):
        named = SOURCE.search(sentence)
        source = named[named.lastindex or 0].rstrip(".") if named else agency
        for claim in CLAIM.finditer(sentence):
            yield FactsChecked.Claim(
                kind=FactsChecked.Kind.Value(f"KIND_{claim.lastgroup}"), text=claim[0], source=source
            )


def judge(claims: Sequence[FactsChecked.Claim]) -> "FactsChecked.Verdict.ValueType":
    if not claims:
        return FactsChecked.VERDICT_NO_CLAIMS
    sourced = [bool(claim.source) for claim in claims]
    if all(sourced):
        return FactsChecked.VERDICT_SOURCED
    return FactsChecked.VERDICT_PARTLY_SOURCED if any(sourced) else FactsChecked.VERDICT_UNSOURCED

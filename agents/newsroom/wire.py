"""Wire copy: takes credits and datelines off a filed story and repairs what its encoding left behind."""

import html
import re
from typing import NamedTuple

from newsroom.v1.events_pb2 import StoryFiled

AGENCY = r"(?:AFP|AP|Bloomberg|Canadian Press|CP|MacCentral|PC World|Reuters|TechWeb|UPI|Ziff Davis|\w+\.com)"
PLACE = r"(?:By )?[A-Z]{2}[A-Z .'/-]*(?:,(?: [\w.]+){1,3})?"
TITLE_CREDIT = re.compile(rf"\s*\(({AGENCY})\)$")
# `Reuters - `, `ATHENS, Greece -- `, `OVERLAND PARK, Kan. (AP) -- `, and several in a row.
DATELINE = re.compile(rf"^(?:(?:{AGENCY}|{PLACE}(?: ?\({AGENCY}\))?) --? )+")

# An entity whose `&` was lost, or became a space: `Apple #146;s`, `#39;`, ` quot;`.
ENTITY = re.compile(r"[& ]?(#\d{2,4}|(?:amp|apos|gt|hellip|lt|mdash|nbsp|ndash|quot|[lr][ds]quo));")
TAG = re.compile(r"</?[A-Za-z][^>]*(?:>|$)")


class Copy(NamedTuple):
    """What a story says, and the agency it is credited to (empty when there is none)."""

    title: str
    body: str
    agency: str


def read(story: StoryFiled) -> Copy:
    title, body = repair(story.title), repair(story.summary)
    dateline = DATELINE.match(body)
    credit = TITLE_CREDIT.search(title) or re.search(rf"\b({AGENCY})\b", dateline[0] if dateline else "")
    return Copy(
        title=TITLE_CREDIT.sub("", title),
        body=DATELINE.sub("", body),
        agency=credit[1] if credit else "",
    )


def repair(text: str) -> str:
    r"""Undoes escapes: `\band` is a line break before `band`, `\$5` a dollar sign, ` #39;` an apostrophe."""
    text = text.replace("\\$", "$").replace("\\", " ")
    text = ENTITY.sub(lambda entity: html.unescape(f"&{entity[1]};"), text)
    text = TAG.sub(" ", text).replace("''", '"')
    return re.sub(r"\s+(?=,)", "", " ".join(text.split()))

"""`mesh demo`: the example teams on a NATS server of their own, and what they left in the log."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from importlib import import_module
from statistics import median, quantiles
from typing import TYPE_CHECKING, Any

import typer

from mesh.cli.loading import load_agents, run_async
from mesh.cli.output import console, print_table
from mesh.errors import MeshError, UsageError

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from mesh.agent.agent import Agent
    from mesh.client import Mesh
    from mesh.query.flow import Flow, Step
    from mesh.settings import Settings

_ROOTS = 20
_DEADLINE = 60.0
_TEXT_WIDTH = 44


@dataclass(frozen=True, slots=True)
class Team:
    """An example team.

    Attributes:
        domain: Its domain, which is also its Python package.
        agents: Its modules, each with one agent.
        sample: The function in `<domain>.sample` that makes up root events.
        promise: What becomes of each root event: exactly one event out of each group, and nothing else.
    """

    domain: str
    agents: tuple[str, ...]
    sample: str
    promise: tuple[tuple[str, ...], ...]

    def load(self) -> "list[Agent[Any]]":
        """Imports the agents.

        Raises:
            UsageError: They are not there: only a checkout of the repository has them.
        """
        try:
            return load_agents([f"{self.domain}.{module}:agent" for module in self.agents])
        except UsageError as error:
            if error.code != "module_not_found":
                raise
            raise UsageError(
                f"the demo runs the example team {self.domain}, which is part of the repository and not of the package",
                code="no_example_team",
                object=f"agents/{self.domain}",
                cure="clone the repository and run `make demo` there",
            ) from error

    def roots(self) -> "list[Message]":
        """Made-up root events, the same ones every time."""
        made: list[Message] = getattr(import_module(f"{self.domain}.sample"), self.sample)(_ROOTS)
        return made

    def keeps_promise(self, flow: "Flow") -> bool:
        """Whether a root event had exactly the outputs that the team promises."""
        root, *outputs = [step for step in flow.walk() if step.kind != "done"]
        found = Counter(_name(output) for output in outputs)
        kept = all(sum(found[name] for name in group) == 1 for group in self.promise)
        return kept and len(outputs) == len(self.promise) and root.cause is None


TEAMS = (
    Team(
        "revops",
        ("lead_scorer", "pricing", "outreach"),
        "leads",
        (("LeadScored",), ("OfferPriced",), ("LeadContacted", "LeadSkipped")),
    ),
    Team(
        "newsroom",
        ("triage", "fact_desk", "headline_desk", "editor"),
        "stories",
        (("StoryTriaged",), ("FactsChecked",), ("HeadlineWritten",), ("StoryPublished", "StorySpiked")),
    ),
)

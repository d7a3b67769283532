"""From the TYPE on a command line to an event type."""

from typing import TYPE_CHECKING, Annotated

import typer

from mesh.cli.loading import load_types

if TYPE_CHECKING:
    from mesh.client import Mesh
    from mesh.contract.event_type import EventType

TypeArgument = Annotated[
    str,
    typer.Argument(metavar="TYPE", help="revops.v1.LeadScored, revops.lead_scored or LeadScored.", show_default=False),
]
"""The type of a command's parameter `type_name: TypeArgument`."""

TypeOption = Annotated[
    str | None, typer.Option("--type", metavar="TYPE", help="revops.v1.LeadScored, revops.lead_scored or LeadScored.")
]
"""The type of a command's parameter `type_name: TypeOption = None`."""


async def find_type(mesh: "Mesh", text: str) -> "EventType":
    """The type a person means: of the registry, or of code that can be imported here, which comes first.

    Raises:
        NotFound: No type, or more than one, goes by this name.
        UsageError: The local code fails when it is imported.
        Unreachable: NATS does not answer.
    """
    from mesh.jetstream.registry import Registry

    catalog = await Registry(mesh.connection, mesh.namespace).catalog()
    catalog.add(load_types(text.rpartition(".")[0]))
    return catalog.find(text)

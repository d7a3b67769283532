"""State: what the log holds of it now."""

from collections.abc import AsyncIterator

from mesh.contract.catalog import Catalog
from mesh.contract.event_type import EventType
from mesh.contract.namespace import Namespace
from mesh.errors import NotFound
from mesh.jetstream.api import Api
from mesh.jetstream.connection import Connection
from mesh.jetstream.scan import scan
from mesh.query.decoder import Decoder
from mesh.query.domains import domain_streams
from mesh.query.follow import Selection
from mesh.query.record import Record, read_record


async def read_state(connection: Connection, namespace: Namespace, kind: EventType, key: str) -> Record:
    """Reads the current state of one entity, as the leader of its stream has it.

    Raises:
        NotFound: There is none.
        Unreachable: NATS does not answer.
    """
    stream = namespace.stream(kind.domain.name)
    stored = await Api(connection).message(stream, last_by_subj=kind.subject(namespace, key))
    record = read_record(namespace, Catalog([kind]), stream, stored) if stored else None
    if record is None or record.deleted:
        entity = f"{kind.entity_type}/{key}"
        raise NotFound(f"there is no {kind.label} of {entity}", object=entity, cure=f"see mesh state ls {kind.label}")
    return record


async def read_states(
    connection: Connection, namespace: Namespace, decoder: Decoder, selection: Selection
) -> AsyncIterator[Record]:
    """Reads the current state of many entities; what is deleted is left out.

    Args:
        connection: To the server.
        namespace: Where to read.
        decoder: Decodes them.
        selection: Which states.

    Yields:
        Records, by domain, those that changed last at the end.

    Raises:
        NotFound: The domain does not exist.
        Unreachable: NATS does not answer.
    """
    for domain, stream in (await domain_streams(connection, namespace, selection.domain)).items():
        if filters := selection.filters(namespace, domain):
            async with scan(connection, stream, filters) as messages:
                async for stored in messages:
                    record = await decoder.decode(stream, stored)
                    if record and not record.deleted:
                        yield record

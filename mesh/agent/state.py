"""Shared state of entities: read, changed and committed together with the outputs of a handling."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from google.protobuf.message import Message

from mesh.contract.event_type import Domain, EventType, Kind
from mesh.contract.generated import event_type
from mesh.contract.validation import validate
from mesh.errors import UsageError

type ReadState = Callable[[EventType, str], Awaitable[tuple[bytes | None, int]]]
"""Reads the state of (type, key): payload, None when there is none, and sequence, 0 when there never was one."""


@dataclass(slots=True)
class Entry:
    """One entity as a handling sees it.

    Attributes:
        type: State type.
        key: Key of the entity.
        sequence: Sequence of the state that was read; 0 when there was none. The commit holds only while it is current.
        data: Payload as this handling left it; None when there is none.
        written: Whether this handling changed it.
    """

    type: EventType
    key: str
    sequence: int
    data: bytes | None
    written: bool = False


class State:
    """`ctx.state`: the current state of entities of the handling's domain.

    Everything read is validated by the commit: when somebody else changed it meanwhile, the handler runs again with
    fresh reads, and nothing of the abandoned run becomes visible.
    """

    def __init__(self, domain: Domain, read: ReadState) -> None:
        self._domain = domain
        self._read = read
        self._entries: dict[tuple[str, str], Entry] = {}

    @property
    def entries(self) -> list[Entry]:
        """Every entity that was read or written, in order."""
        return list(self._entries.values())

    async def get[M: Message](self, state: type[M], key: str | int) -> M | None:
        """The state of an entity as this handling left it, or None when there is none.

        Raises:
            UsageError: `state` is not a state type of the handled event's domain.
            Unreachable: NATS does not answer.
        """
        entry = await self._entry(event_type(state), str(key))
        return None if entry.data is None else state.FromString(entry.data)

    async def get_or_new[M: Message](self, state: type[M], key: str | int) -> M:
        """The state of an entity, or a new message with only its key set."""
        found = await self.get(state, key)
        if found is not None:
            return found
        kind = event_type(state)
        new = state()
        setattr(new, kind.key_field, type(getattr(new, kind.key_field))(key))
        return new

    async def put(self, message: Message) -> None:
        """Sets the state of the entity that the message's key field names.

        Raises:
            UsageError: The message is not a state of the handled event's domain.
            ContractError: The message violates its constraints, or its key is empty.
        """
        kind = event_type(type(message))
        key = kind.key(message)
        entry = await self._entry(kind, key)
        validate(message)
        entry.data = message.SerializeToString(deterministic=True)
        entry.written = True

    async def delete(self, state: type[Message], key: str | int) -> None:
        """Removes the state of an entity; nothing happens when there is none."""
        entry = await self._entry(event_type(state), str(key))
        if entry.data is not None:
            entry.data = None
            entry.written = True

    async def _entry(self, kind: EventType, key: str) -> Entry:
        found = self._entries.get((kind.full_name, key))
        if found is None:
            self._check(kind)
            data, sequence = await self._read(kind, key)
            # A concurrent read of the same entity may have come first; the handling must see one version of it.
            found = self._entries.setdefault((kind.full_name, key), Entry(kind, key, sequence, data))
        return found

    def _check(self, kind: EventType) -> None:
        if kind.kind is not Kind.STATE:
            raise UsageError(
                f"{kind.full_name} is not a state",
                code="not_a_state",
                object=kind.full_name,
                cure="mark it: option (mesh.v1.state) = {};",
            )
        if kind.domain.name != self._domain.name:
            raise UsageError(
                f"{kind.full_name} belongs to the domain {kind.domain.name}, this event to {self._domain.name}",
                code="foreign_state",
                object=kind.full_name,
                cure=f"a commit spans one domain: emit an event into {kind.domain.name} instead",
            )

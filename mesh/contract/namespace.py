"""Subjects and stream names: the only module that knows where the dots go."""

import hashlib
import re
from dataclasses import dataclass
from typing import Final

from mesh.errors import ContractError, UsageError

MAX_KEY_BYTES: Final = 180
"""Longest key in a subject, in bytes after encoding."""

_NAMESPACE = re.compile(r"[a-z][a-z0-9-]*")
_UNSAFE = re.compile(rb"[^A-Za-z0-9_-]")
_ESCAPE = re.compile(r"%([0-9A-F]{2})")


def encode_token(value: str, *, object: str = "key") -> str:  # noqa: A002 - the word of MeshError
    """Writes any text as one subject token: UTF-8 with every byte outside `[A-Za-z0-9_-]` as `%XX`.

    Raises:
        ContractError: The text is empty or longer than `MAX_KEY_BYTES` once encoded.
    """
    if not value:
        raise ContractError(f"{object} is empty", code="empty_key", object=object, cure="give it a value")
    token = value if value.isascii() and value.isalnum() else _encode(value)
    if len(token) > MAX_KEY_BYTES:
        raise ContractError(
            f"{object} takes {len(token)} bytes in a subject, {MAX_KEY_BYTES} are allowed",
            code="key_too_long",
            object=object,
            cure="use a shorter key, e.g. a hash of it",
        )
    return token


def _encode(value: str) -> str:
    return _UNSAFE.sub(lambda match: b"%%%02X" % match[0][0], value.encode()).decode()


def decode_token(token: str) -> str:
    """Reads what `encode_token` wrote; text that is not valid UTF-8 comes back with replacement characters."""
    if "%" not in token:
        return token
    raw = _ESCAPE.sub(lambda match: chr(int(match[1], 16)), token)
    return raw.encode("latin-1", "replace").decode("utf-8", "replace")


@dataclass(frozen=True, slots=True)
class Address:
    """A subject of a domain, taken apart.

    Attributes:
        domain: Name of the domain.
        kind: Third token: `evt`, `cmd`, `state`, `dec`, `out`, `done`, `due`, `dead` or `redo`.
        name: Name of the event, command or state type; the question of `dec`; empty for `done` and `due`.
        key: Decoded key; the whole entity of `dec`.
        agent: The agent a `dead`, `redo`, `done` or `due` subject belongs to; else empty.
    """

    domain: str
    kind: str
    name: str
    key: str
    agent: str = ""


@dataclass(frozen=True, slots=True)
class Namespace:
    """A team's share of a NATS account: the first token of its subjects and the prefix of its streams.

    Raises:
        UsageError: The name does not match `[a-z][a-z0-9-]*`.
    """

    name: str = "mesh"

    def __post_init__(self) -> None:
        # The subjects of a namespace `x-journal` would be those of the journal of a namespace `x`.
        if not _NAMESPACE.fullmatch(self.name) or self.name.endswith("-journal"):
            raise UsageError(
                f"namespace {self.name!r} is not a legal name",
                code="bad_namespace",
                object="MESH_NAMESPACE",
                cure="use a lower-case letter followed by letters, digits or dashes, without -journal at the end",
            )

    def _prefixed(self, name: str) -> str:
        return f"{self.name}_{name}".upper().replace("-", "_")

    def stream(self, domain: str) -> str:
        """Name of the stream that holds a domain."""
        return self._prefixed(domain)

    @property
    def journal_stream(self) -> str:
        """Name of the stream that holds the journals of handlings."""
        return self._prefixed("JOURNAL")

    @property
    def registry_bucket(self) -> str:
        """Key-value bucket of contracts, declarations and command owners."""
        return f"{self.name}-registry"

    @property
    def presence_bucket(self) -> str:
        """Key-value bucket of running processes."""
        return f"{self.name}-presence"

    @property
    def blob_bucket(self) -> str:
        """Object store of what is too large for a journal."""
        return f"{self.name}-blobs"

    def domain(self, domain: str) -> str:
        """Every subject of a domain."""
        return f"{self.name}.{domain}.>"

    def message(self, domain: str, kind: str, name: str, key: str) -> str:
        """Subject of an event (`evt`), a command (`cmd`) or a state (`state`)."""
        return f"{self.name}.{domain}.{kind}.{name}.{encode_token(key)}"

    def every(self, domain: str, kind: str, name: str) -> str:
        """Filter for all keys of an event, command or state type."""
        return f"{self.name}.{domain}.{kind}.{name}.*"

    def out(self, domain: str, target: str, name: str, key: str) -> str:
        """Subject under which an output into another domain is committed at home."""
        return f"{self.name}.{domain}.out.{target}.{name}.{encode_token(key)}"

    def every_out(self, domain: str, target: str, name: str) -> str:
        """Filter for all keys of an output into another domain."""
        return f"{self.name}.{domain}.out.{target}.{name}.*"

    def done(self, domain: str, agent: str, key: str) -> str:
        """Subject of the record of a commit that holds no event."""
        return f"{self.name}.{domain}.done.{agent}.{encode_token(key)}"

    def decision(self, domain: str, question: str, entity: str) -> str:
        """Subject of the decisions on a question about an entity, `<entity type>/<key>`."""
        kind, _, key = entity.partition("/")
        return f"{self.name}.{domain}.dec.{question}.{encode_token(kind)}.{encode_token(key)}"

    def every_decision(self, domain: str, entity_type: str, key: str | None = None) -> str:
        """Filter for the decisions on all questions about an entity, or about all entities of a type."""
        return f"{self.name}.{domain}.dec.*.{encode_token(entity_type)}.{'*' if key is None else encode_token(key)}"

    def timer(self, domain: str, event_id: str) -> str:
        """Subject of the schedule of an output."""
        return f"{self.name}.{domain}.timer.{encode_token(event_id)}"

    def due(self, domain: str, agent: str, event_id: str) -> str:
        """Subject under which an output turns up for its agent when its time has come."""
        return f"{self.name}.{domain}.due.{agent}.{encode_token(event_id)}"

    def every_due(self, domain: str, agent: str) -> str:
        """Filter for all outputs of an agent whose time has come."""
        return f"{self.name}.{domain}.due.{agent}.*"

    def claim(self, domain: str, key: str) -> str:
        """Subject of a claim."""
        return f"{self.name}.{domain}.claim.{encode_token(key)}"

    def dead(self, domain: str, agent: str, name: str, key: str) -> str:
        """Subject of a dead letter."""
        return f"{self.name}.{domain}.dead.{agent}.{name}.{encode_token(key)}"

    def redo(self, domain: str, agent: str, name: str, key: str) -> str:
        """Subject of an event for one agent only."""
        return f"{self.name}.{domain}.redo.{agent}.{name}.{encode_token(key)}"

    def every_redo(self, domain: str, agent: str, name: str) -> str:
        """Filter for what is sent to one handler of one agent only."""
        return f"{self.name}.{domain}.redo.{agent}.{name}.*"

    def every_dead(self, domain: str, agent: str = "*") -> str:
        """Filter for the dead letters of a domain, of one agent or of all."""
        return f"{self.name}.{domain}.dead.{agent}.>"

    def journal(self, agent: str, event_id: str) -> str:
        """Subject of the journal of one handling; an id that is too long for a subject is hashed."""
        token = _encode(event_id)
        if len(token) > MAX_KEY_BYTES:
            token = hashlib.blake2b(event_id.encode(), digest_size=16).hexdigest()
        return f"{self.name}-journal.{agent}.{token}"

    def parse(self, subject: str) -> Address | None:
        """Takes a subject apart; None when it is not one of this namespace."""
        match subject.split("."):
            case [self.name, domain, ("evt" | "cmd" | "state") as kind, name, key]:
                return Address(domain, kind, name, decode_token(key))
            case [self.name, domain, ("dead" | "redo") as kind, agent, name, key]:
                return Address(domain, kind, name, decode_token(key), agent)
            case [self.name, domain, ("done" | "due") as kind, agent, key]:
                return Address(domain, kind, "", decode_token(key), agent)
            case [self.name, domain, "dec" as kind, question, entity_type, key]:
                return Address(domain, kind, question, f"{decode_token(entity_type)}/{decode_token(key)}")
            case [self.name, domain, "out" as kind, _, name, key]:
                return Address(domain, kind, name, decode_token(key))
        return None

"""Brings a server to a topology: plans first, widens freely, shortens and deletes only when told to."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum

from mesh.errors import Refused
from mesh.jetstream.api import Api
from mesh.jetstream.topology import Config, Durable, Topology, consumer
from mesh.settings import StreamSettings

_SETTLE_TRIES = 5


class Verb(StrEnum):
    """What a step does."""

    CREATE = "create"
    UPDATE = "update"
    KEEP = "keep"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a plan.

    Attributes:
        verb: What is done.
        object: `stream MESH_REVOPS`, `consumer MESH_REVOPS/pricing`.
        changes: What differs, one sentence each.
        widens: The step only adds; an agent may take it at its own start.
        run: Takes the step.
    """

    verb: Verb
    object: str
    changes: tuple[str, ...]
    widens: bool
    run: Callable[[], Awaitable[None]]


class Provisioner:
    """Plans and takes the steps to a topology.

    Args:
        api: JetStream.
        settings: How streams and consumers are configured.
        prune: Shrink filters of consumers to what is declared; what is pending behind them is never delivered.
        allow_destructive: Shorten `max_age` and lower replicas where the topology says so.
    """

    def __init__(
        self, api: Api, settings: StreamSettings, *, prune: bool = False, allow_destructive: bool = False
    ) -> None:
        self._api = api
        self._settings = settings
        self._prune = prune
        self._allow_destructive = allow_destructive

    async def plan(self, topology: Topology) -> list[Step]:
        """The steps to a topology, those that change nothing included.

        Raises:
            Unreachable: JetStream does not answer.
        """
        steps = [await self._stream(config) for config in topology.streams.values()]
        steps += [await self._consumer(durable) for durable in topology.durables]
        return steps

    async def widen(self, topology: Topology) -> None:
        """Creates what is missing and grows filters; leaves all else as it is.

        Raises:
            Refused: The server refuses a step.
            Unreachable: JetStream does not answer.
        """
        for step in await self.plan(topology):
            if step.widens:
                await step.run()

    async def _stream(self, desired: Config) -> Step:
        name = desired["name"]
        found = await self._api.find(f"STREAM.INFO.{name}")
        if found is None:
            return Step(Verb.CREATE, f"stream {name}", (), widens=True, run=lambda: self._create_stream(desired))
        actual: Config = found["config"]
        if actual["subjects"] != desired["subjects"]:
            reason = f"it holds {', '.join(actual['subjects'])}; choose another namespace or domain name"
            return _refusal(f"stream {name}", reason)
        changed = {key: value for key, value in desired.items() if _differs(key, actual.get(key), value)}
        shortens = [key for key in changed if _shortens(key, actual.get(key), changed[key])]
        changes = tuple(f"{key}: {actual.get(key)} -> {value}" for key, value in changed.items())
        if not changed:
            return _nothing(f"stream {name}")
        if shortens and not self._allow_destructive:
            return _refusal(f"stream {name}", f"{', '.join(shortens)} would lose data; repeat with --allow-destructive")
        update = actual | changed
        return Step(
            Verb.UPDATE,
            f"stream {name}",
            changes,
            widens=False,
            run=lambda: self._call(f"STREAM.UPDATE.{name}", update),
        )

    async def _consumer(self, durable: Durable) -> Step:
        name = f"consumer {durable.stream}/{durable.name}"
        found = await self._api.find(f"CONSUMER.INFO.{durable.stream}.{durable.name}")
        if found is None:
            return Step(Verb.CREATE, name, (), widens=True, run=lambda: self._create_consumer(durable))
        actual = _filters(found["config"])
        missing, extra = set(durable.filters) - actual, actual - set(durable.filters)
        wanted = set(durable.filters) if self._prune else actual | missing
        changes = [f"also reads {subject}" for subject in sorted(missing)]
        if self._prune:
            floor = found["ack_floor"]["stream_seq"]
            changes += [
                f"no longer reads {subject} ({await self._pending(durable.stream, subject, floor)} pending)"
                for subject in sorted(extra)
            ]
        if wanted == actual:
            return _nothing(name)
        return Step(
            Verb.UPDATE,
            name,
            tuple(changes),
            widens=not self._prune,
            run=lambda: self._set_filters(durable, prune=self._prune),
        )

    async def _create_stream(self, config: Config) -> None:
        try:
            await self._call(f"STREAM.CREATE.{config['name']}", config)
        except Refused:
            # Another process may have created it between our look and our request.
            if await self._api.find(f"STREAM.INFO.{config['name']}") is None:
                raise

    async def _create_consumer(self, durable: Durable) -> None:
        body = {"stream_name": durable.stream, "config": consumer(durable, self._settings), "action": "create"}
        try:
            await self._call(f"CONSUMER.CREATE.{durable.stream}.{durable.name}", body)
        except Refused:
            if await self._api.find(f"CONSUMER.INFO.{durable.stream}.{durable.name}") is None:
                raise
            await self._set_filters(durable, prune=False)

    async def _set_filters(self, durable: Durable, *, prune: bool) -> None:
        """Updates filters until a fresh look shows ours: updates have no condition, and replicas start together."""
        for _ in range(_SETTLE_TRIES):
            info = await self._api.call(f"CONSUMER.INFO.{durable.stream}.{durable.name}")
            actual = _filters(info["config"])
            wanted = set(durable.filters) if prune else actual | set(durable.filters)
            if wanted == actual:
                return
            config = {k: v for k, v in info["config"].items() if k != "filter_subject"}
            config["filter_subjects"] = sorted(wanted)
            body = {"stream_name": durable.stream, "config": config, "action": "update"}
            await self._call(f"CONSUMER.CREATE.{durable.stream}.{durable.name}", body)
            await asyncio.sleep(random.uniform(0, 0.1))  # noqa: S311 - jitter, not a secret
        raise Refused(
            f"others keep changing the filters of consumer {durable.stream}/{durable.name}",
            object=durable.name,
            cure="run `mesh apply` from one place at a time",
        )

    async def _pending(self, stream: str, subject: str, after: int) -> int:
        """How many messages of a subject lie after a sequence."""
        config = {
            "ack_policy": "none",
            "filter_subject": subject,
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": after + 1,
            "mem_storage": True,
            "inactive_threshold": 1_000_000_000,
        }
        found = await self._api.call(f"CONSUMER.CREATE.{stream}", {"stream_name": stream, "config": config})
        return int(found["num_pending"])

    async def _call(self, subject: str, body: Config) -> None:
        await self._api.call(subject, body)


def _filters(config: Config) -> set[str]:
    return set(config.get("filter_subjects") or [config["filter_subject"]])


def _differs(key: str, actual: object, desired: object) -> bool:
    if key == "metadata":
        known = {k: v for k, v in (actual or {}).items() if not k.startswith("_nats.")}  # type: ignore[attr-defined]
        return known != desired
    return (actual or None) != (desired or None)


def _shortens(key: str, actual: int | None, desired: int) -> bool:
    """Whether a change loses data; a `max_age` of 0 means for ever."""
    if key == "max_age":
        return desired != 0 and (not actual or desired < actual)
    return key == "num_replicas" and desired < (actual or 0)


def _nothing(name: str) -> Step:
    return Step(Verb.KEEP, name, (), widens=False, run=_rest)


def _refusal(name: str, reason: str) -> Step:
    async def refuse() -> None:
        raise Refused(f"{name} is not changed: {reason}", code="not_provisioned", object=name)

    return Step(Verb.REFUSE, name, (reason,), widens=False, run=refuse)


async def _rest() -> None:
    return None

"""`ctx.step` and `ctx.effect`: calls to the outside whose results are written down before they are used."""

import asyncio
import inspect
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Protocol

from mesh.agent import codec
from mesh.errors import MeshError, Reject, Retry, UsageError
from mesh.v1.log_pb2 import StepId

MAX_RESULT = 32 << 20
"""Largest result of a step, in bytes."""


class StepJournal(Protocol):
    """What earlier runs of the same handling wrote down."""

    async def recall(self, step: StepId) -> tuple[str, bytes] | None:
        """The result of a call (its Protobuf name or "", and its bytes), or None when it has none."""
        ...

    async def record(self, step: StepId, type_name: str, data: bytes) -> tuple[str, bytes]:
        """Writes the result of a call down, and returns the one that counts: the first."""
        ...

    async def intends(self, step: StepId) -> bool:
        """Whether the last word on a call is that it is about to be made."""
        ...

    async def begin(self, step: StepId) -> bool:
        """Writes down that a call is about to be made; False when another process wrote something meanwhile."""
        ...

    async def call_off(self, step: StepId) -> None:
        """Writes down that a call did not happen."""
        ...


class EffectUnsettled(MeshError):
    """A process ended, or failed, while it made a call that must not be repeated blindly."""


class Steps:
    """The calls of one run of a handler.

    Args:
        journal: What earlier runs wrote down.
        scope: Names the handling; idempotency keys derive from it.
    """

    def __init__(self, journal: StepJournal, scope: str) -> None:
        self._journal = journal
        self._scope = scope
        self._calls: Counter[tuple[str, bytes]] = Counter()

    async def step(self, name: str, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """See `mesh.agent.context.Context.step`."""
        step = self._identify(name, args, kwargs)
        known = await self._journal.recall(step)
        if known is None:
            known = await self._record(step, function, await _call(function, args, kwargs))
        return codec.decode(function, *known)

    async def effect(
        self,
        name: str,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        reconcile: Callable[[str], Any] | None,
    ) -> Any:
        """See `mesh.agent.context.Context.effect`."""
        step = self._identify(name, args, kwargs)
        key = f"{self._scope}/{name}/{step.digest.hex()}/{step.occurrence}"
        while True:
            known = await self._journal.recall(step) or await self._settle(step, key, function, reconcile)
            if known is None and await self._journal.begin(step):
                known = await self._perform(step, function, args, {**kwargs, "idempotency_key": key})
            if known is not None:
                return codec.decode(function, *known)

    async def _perform(
        self, step: StepId, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[str, bytes]:
        try:
            result = await _call(function, args, kwargs)
        except (Reject, Retry):
            await self._journal.call_off(step)
            raise
        return await self._record(step, function, result)

    async def _settle(
        self, step: StepId, key: str, function: Callable[..., Any], reconcile: Callable[[str], Any] | None
    ) -> tuple[str, bytes] | None:
        """Finds out what became of a call that an earlier run was about to make; None when it may be made now."""
        if not await self._journal.intends(step):
            return None
        if reconcile is None:
            raise EffectUnsettled(
                f"effect {step.name!r} was begun by an earlier run and nobody knows whether it happened",
                code="effect_unsettled",
                object=step.name,
                cure=f"find out by its idempotency key {key}; then redrive or discard the event",
            )
        result = await _call(reconcile, (key,), {})
        return None if result is None else await self._record(step, function, result)

    async def _record(self, step: StepId, function: Callable[..., Any], result: Any) -> tuple[str, bytes]:
        type_name, data = codec.encode(step.name, function, result)
        if len(data) > MAX_RESULT:
            raise UsageError(
                f"the result of step {step.name!r} takes {len(data)} bytes, {MAX_RESULT} are allowed",
                code="step_too_large",
                object=step.name,
                cure="store it elsewhere and return a reference",
            )
        return await self._journal.record(step, type_name, data)

    def _identify(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> StepId:
        digest = codec.digest(name, args, kwargs)
        occurrence = self._calls[name, digest]
        self._calls[name, digest] += 1
        return StepId(name=name, digest=digest, occurrence=occurrence)


async def _call(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if inspect.iscoroutinefunction(function):
        return await function(*args, **kwargs)
    result = await asyncio.to_thread(partial(function, *args, **kwargs))
    return await result if isinstance(result, Awaitable) else result

"""What `mesh doctor` looks at."""

import asyncio
import os
import platform
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from typing import Any, Literal
from urllib.parse import urlsplit

from mesh.contract.namespace import Namespace
from mesh.errors import MeshError, Unreachable
from mesh.jetstream.api import Api, parse_time
from mesh.jetstream.connection import Connection, connect
from mesh.jetstream.server_binary import server_binary, server_version
from mesh.settings import Settings

_OLDEST_SERVER = (2, 14)
_GOOD_SERVER = (2, 15)
_GOOD_PAYLOAD = 1 << 20
_NEARLY_FULL = 0.8
_SMALL_SKEW = timedelta(seconds=1)
_OTLP_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_OTLP_PORT = 4317
_OTLP_TIMEOUT = 3.0
_USER_INFO = re.compile(r"(^|,|//)[^/,@]*@")


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report.

    Attributes:
        check: What was looked at.
        status: `fail`: agents cannot work; `warn`: they can, with something less.
        detail: What was found.
        cure: What to do about it; empty when all is well.
    """

    check: str
    status: Literal["ok", "warn", "fail"]
    detail: str
    cure: str = ""


async def examine(settings: Settings) -> list[Finding]:
    """Checks everything; NATS that cannot be reached is the finding `nats` with the status `fail`."""
    return [*_optional_parts(settings), await _tracing(), *await _nats(settings)]


def in_force(settings: Settings) -> dict[str, object]:
    """Settings by the name of their environment variable, with secrets masked."""
    return dict(_flat(settings.model_dump(mode="json"), "MESH_"))


def _optional_parts(settings: Settings) -> Iterator[Finding]:
    python = f"Python {platform.python_version()}"
    if find_spec("uvloop"):
        yield Finding("event loop", "ok", f"{python} on uvloop")
    else:
        yield Finding("event loop", "warn", f"{python} without uvloop, which is faster", "pip install uvloop")
    try:
        binary = server_binary(settings.nats.server_bin)
        yield Finding("local server", "ok", f"nats-server {server_version(binary)} at {binary}")
    except MeshError as error:
        yield Finding("local server", "warn", error.args[0], error.cure)
    for check, module, extra in (("mesh proto", "grpc_tools", "proto"), ("mesh dev", "watchfiles", "dev")):
        if find_spec(module):
            yield Finding(check, "ok", f"{module} is installed")
        else:
            yield Finding(check, "warn", f"{module} is not installed", f"pip install 'mesh[{extra}]'")


async def _nats(settings: Settings) -> list[Finding]:
    try:
        connection = await connect(settings.nats, "mesh doctor")
    except Unreachable as error:
        return [Finding("nats", "fail", _masked(error.args[0]), error.cure)]
    try:
        reached = Finding("nats", "ok", _masked(settings.nats.url))
        return [reached, _version(connection), _payload(connection), *await _jetstream(connection, settings)]
    finally:
        await connection.close()


async def _tracing() -> Finding:
    endpoint = next((os.environ[name] for name in _OTLP_ENDPOINTS if os.environ.get(name)), None)
    if endpoint is None:
        return Finding("tracing", "ok", f"off: {_OTLP_ENDPOINTS[-1]} is not set")
    try:
        url = urlsplit(endpoint if "://" in endpoint else f"//{endpoint}")
        async with asyncio.timeout(_OTLP_TIMEOUT):
            _, writer = await asyncio.open_connection(url.hostname, url.port or _OTLP_PORT)
        writer.close()
    except (OSError, ValueError) as error:
        detail = f"{_masked(endpoint)} cannot be reached: {str(error) or 'no answer'}"
        return Finding("tracing", "warn", detail, "start the collector, or mend the variable")
    return Finding("tracing", "ok", f"{_masked(endpoint)} answers")


def _version(connection: Connection) -> Finding:
    version = connection.server_version
    number = tuple(int(part) for part in version.split(".")[:2])
    if number < _OLDEST_SERVER:
        return Finding("nats version", "fail", f"{version} cannot store what agents write", "upgrade to 2.15")
    if number < _GOOD_SERVER:
        return Finding("nats version", "warn", f"{version} works, 2.15 is better tested", "upgrade to 2.15")
    return Finding("nats version", "ok", version)


def _payload(connection: Connection) -> Finding:
    size = connection.max_payload
    if size < _GOOD_PAYLOAD:
        return Finding("max_payload", "warn", f"{size} bytes: larger events are refused", "raise it to 1MB or more")
    return Finding("max_payload", "ok", f"{size} bytes")


async def _jetstream(connection: Connection, settings: Settings) -> list[Finding]:
    api = Api(connection)
    try:
        account = await api.call("INFO")
    except MeshError as error:
        return [Finding("jetstream", "fail", error.args[0], "enable JetStream in the server and for this account")]
    findings = [Finding("jetstream", "ok", f"{account['streams']} streams, {account['consumers']} consumers")]
    findings += _limits(account)
    if clock := await _clock(api, settings):
        findings.append(clock)
    return findings


def _limits(account: Mapping[str, Any]) -> Iterator[Finding]:
    limits = account["limits"]
    if limits.get("max_bytes_required"):
        detail = "the account wants a size limit on each stream, which would evict state"
        yield Finding("account", "fail", detail, "allow streams without max_bytes in this account")
    for resource in ("storage", "memory", "streams", "consumers"):
        used, limit = account[resource], limits[f"max_{resource}"]
        if limit > 0:
            is_full = used >= _NEARLY_FULL * limit
            cure = f"raise max_{resource} of this account" if is_full else ""
            yield Finding(f"account {resource}", "warn" if is_full else "ok", f"{used} of {limit} in use", cure)


async def _clock(api: Api, settings: Settings) -> Finding | None:
    """How far apart the clocks are: a stream's answer carries the server's time, so there must be a stream."""
    asked = datetime.now(UTC)
    registry = await api.find(f"STREAM.INFO.KV_{Namespace(settings.namespace).registry_bucket}")
    if registry is None:
        return None
    skew = parse_time(registry["ts"]) - (asked + (datetime.now(UTC) - asked) / 2)
    detail = f"the server's is {abs(skew.total_seconds()):.3f} s {'ahead' if skew > timedelta() else 'behind'}"
    if abs(skew) > timedelta(seconds=settings.stream.duplicate_window / 2):
        return Finding("clocks", "fail", f"{detail}: repeated events may not be recognised", "synchronise them by NTP")
    if abs(skew) > _SMALL_SKEW:
        return Finding("clocks", "warn", detail, "synchronise them by NTP")
    return Finding("clocks", "ok", detail)


def _flat(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, object]]:
    for key, value in values.items():
        name = f"{prefix}{key.upper()}"
        if isinstance(value, dict):
            yield from _flat(value, f"{name}__")
        else:
            yield name, _masked(value) if isinstance(value, str) else value


def _masked(text: str) -> str:
    """A text without the user and password that its addresses may hold."""
    return _USER_INFO.sub(r"\1***@", text)

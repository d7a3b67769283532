"""Health endpoints of a worker, for probes of Kubernetes and for people with curl.

`/livez`: the event loop turns. `/startupz`: every agent has begun to read. `/readyz`: and NATS is there, and it is not
stopping.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from mesh.errors import UsageError
from mesh.worker import Worker


@asynccontextmanager
async def health_server(worker: Worker, agents: Sequence[str], port: int) -> AsyncIterator[None]:
    """Answers probes of a worker in its own event loop until the block ends.

    Args:
        worker: Who is asked.
        agents: Names of its agents, shown in the answers.
        port: Where to listen, on all addresses: a probe does not come from this host.

    Raises:
        UsageError: Something listens on the port already, or it may not be used.
    """
    config = uvicorn.Config(
        _app(worker, list(agents)), log_config=None, log_level="warning", access_log=False, lifespan="off", ws="none"
    )
    with _listen(port) as listener:
        server = _Server(config)
        serving = asyncio.create_task(server.serve([listener]))
        try:
            yield
        finally:
            server.should_exit = True
            await serving


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leaves the signals to the worker."""
        yield


def _app(worker: Worker, agents: list[str]) -> Starlette:
    def answer(status: str, *, ok: bool) -> JSONResponse:
        return JSONResponse({"status": status, "agents": agents}, 200 if ok else 503)

    async def livez(_: Request) -> JSONResponse:
        return answer("alive", ok=True)

    async def startupz(_: Request) -> JSONResponse:
        return answer("started" if worker.is_started else "starting", ok=worker.is_started)

    async def readyz(_: Request) -> JSONResponse:
        return answer("ready" if worker.is_ready else "not ready", ok=worker.is_ready)

    return Starlette(routes=[Route(f"/{endpoint.__name__}", endpoint) for endpoint in (livez, startupz, readyz)])


def _listen(port: int) -> socket.socket:
    try:
        if socket.has_dualstack_ipv6():
            return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
        return socket.create_server(("", port))
    except OSError as error:
        raise UsageError(
            f"port {port} cannot serve the health endpoints: {error.strerror}",
            code="port_in_use",
            object=str(port),
            cure="choose another one with --health-port, or 0 for none",
        ) from error

"""What tests of a running mesh share."""

import asyncio
import time
from collections import Counter
from contextlib import asynccontextmanager

from mesh import Mesh, Settings
from mesh.contract.namespace import Namespace
from mesh.jetstream.api import Api
from mesh.jetstream.log import JetStreamLog
from mesh.settings import NatsSettings, RetrySettings, StreamSettings
from mesh.v1.log_pb2 import DeadLetter
from mesh.worker import Worker


async def eventually(condition, *, within=20.0, every=0.02):
    """Polls until the condition holds and returns what it gave; fails with its last value at the deadline."""
    deadline = time.monotonic() + within
    while True:
        value = condition()
        if asyncio.iscoroutine(value):
            value = await value
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {within} s; last seen: {value!r}"
        await asyncio.sleep(every)


class Stage:
    """A namespace on a real server, with the shorthands that tests want."""

    def __init__(self, server, namespace, **changes):
        self.server = server
        self.names = Namespace(namespace)
        self.settings = Settings(
            namespace=namespace,
            health_port=0,
            shutdown_grace=changes.pop("grace", 5.0),
            nats=NatsSettings(url=server.url),
            stream=StreamSettings(
                ack_wait=changes.pop("ack_wait", 2.0),
                duplicate_window=changes.pop("duplicate_window", 120.0),
                replicas=changes.pop("replicas", 1),
            ),
            retry=RetrySettings(base=changes.pop("retry_base", 0.1)),
            **changes,
        )
        self.mesh = None

    @property
    def environment(self):
        """The same settings for a process of its own."""
        settings = self.settings
        return {
            "MESH_NAMESPACE": settings.namespace,
            "MESH_HEALTH_PORT": "0",
            "MESH_NATS__URL": settings.nats.url,
            "MESH_STREAM__ACK_WAIT": str(settings.stream.ack_wait),
            "MESH_STREAM__REPLICAS": str(settings.stream.replicas),
            "MESH_RETRY__BASE": str(settings.retry.base),
            "MESH_SHUTDOWN_GRACE": str(settings.shutdown_grace),
        }

    @asynccontextmanager
    async def open(self):
        async with Mesh.connect(self.settings) as mesh:
            self.mesh = mesh
            yield self

    @property
    def api(self):
        return Api(self.mesh.connection)

    @asynccontextmanager
    async def running(self, *agents, settings=None):
        """Runs agents in this process; leaving the block drains them."""
        worker = Worker(agents, settings or self.settings)
        task = asyncio.create_task(worker.run())
        try:
            await eventually(lambda: worker.is_ready or task.done())
            if task.done():
                task.result()
            yield worker
        finally:
            worker.stop()
            await task

    async def subjects(self, domain, below=">"):
        """Subjects below the domain with the number of their messages."""
        prefix = f"{self.names.name}.{domain}."
        found = await self.api.subjects(self.names.stream(domain), prefix + below)
        return {subject.removeprefix(prefix): count for subject, count in found.items()}

    async def counts(self, domain):
        """Messages by `<kind>.<name>`."""
        counts = Counter()
        for subject, number in (await self.subjects(domain)).items():
            counts[".".join(subject.split(".")[:2])] += number
        return dict(counts)

    async def messages(self, domain, below):
        """Stored messages of a filter, oldest first."""
        log = JetStreamLog(self.mesh.connection, self.names)
        found = log.read(self.names.stream(domain), f"{self.names.name}.{domain}.{below}")
        return [stored async for stored in found]

    async def dead_letters(self, domain):
        return [DeadLetter.FromString(stored.data) for stored in await self.messages(domain, "dead.>")]

    async def consumer(self, domain, name):
        return await self.api.call(f"CONSUMER.INFO.{self.names.stream(domain)}.{name}")

    async def settled(self, domain, name):
        """Whether a durable has delivered everything that is there, and nothing of it is unsettled."""
        info = await self.consumer(domain, name)
        if info["num_pending"] or info["num_ack_pending"]:
            return False
        # What was stored a moment ago may not be counted as pending yet.
        for subject in info["config"]["filter_subjects"]:
            last = await self.api.message(self.names.stream(domain), last_by_subj=subject)
            if last and last.sequence > info["delivered"]["stream_seq"]:
                return False
        return True

"""What it saves that transactions which are ready together share an atomic batch.

Each transaction holds two outputs. One at a time, each pays for a batch of its own; side by side, they share. Rounds
are interleaved, on one server with file storage; medians are printed.
"""

import argparse
import asyncio
import statistics
import time

from mesh.contract.event_type import Domain
from mesh.contract.ids import new_id
from mesh.contract.namespace import Namespace
from mesh.jetstream.api import Api
from mesh.jetstream.commit import Committer
from mesh.jetstream.connection import connect
from mesh.jetstream.server import LocalServer
from mesh.jetstream.topology import domain_stream
from mesh.runtime.ports import Write
from mesh.settings import NatsSettings, StreamSettings

NAMES = Namespace("bench")
STREAM = NAMES.stream("shop")
PAYLOAD = b"x" * 200


def transaction() -> list[Write]:
    """Two events with ids, each on a subject of its own."""
    subjects = (NAMES.message("shop", "evt", "bench", new_id()) for _ in range(2))
    return [Write(subject, PAYLOAD, {"Nats-Msg-Id": new_id()}) for subject in subjects]


async def one_at_a_time(committer: Committer, number: int) -> tuple[float, list[float]]:
    """Transactions per second, and the seconds that each one took."""
    took = []
    for _ in range(number):
        start = time.perf_counter()
        await committer.commit(transaction())
        took.append(time.perf_counter() - start)
    return number / sum(took), took


async def side_by_side(committer: Committer, number: int, in_flight: int) -> float:
    """Transactions per second with `in_flight` of them waiting at the same time."""
    slots = asyncio.Semaphore(in_flight)

    async def one() -> None:
        async with slots:
            await committer.commit(transaction())

    start = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(number)))
    return number / (time.perf_counter() - start)


async def measure(rounds: int, in_flight: int) -> None:
    """Prints a line per figure."""
    with LocalServer() as server:
        connection = await connect(NatsSettings(url=server.url), "benchmark")
        await Api(connection).call(f"STREAM.CREATE.{STREAM}", domain_stream(NAMES, StreamSettings(), Domain("shop")))
        committer = Committer(connection, STREAM)
        alone, shared, latencies = [], [], []
        for _ in range(rounds):
            rate, took = await one_at_a_time(committer, 200)
            alone.append(rate)
            latencies += took
            shared.append(await side_by_side(committer, 40 * in_flight, in_flight))
        await connection.close()
        ratios = [together / single for together, single in zip(shared, alone, strict=True)]
        print(f"nats-server {server.version}, file storage, {rounds} rounds, two outputs per transaction")
    print(f"one at a time:      {statistics.median(alone):8.0f} transactions/s")
    print(f"{in_flight:4} side by side:  {statistics.median(shared):8.0f} transactions/s")
    print(f"ratio:              {statistics.median(ratios):8.1f}  ({min(ratios):.1f} to {max(ratios):.1f})")
    print(f"latency when idle:  {1000 * statistics.median(latencies):8.2f} ms (median of one batch)")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--in-flight", type=int, default=500)
    arguments = parser.parse_args()
    asyncio.run(measure(arguments.rounds, arguments.in_flight))

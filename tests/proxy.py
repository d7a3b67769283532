"""A bad line between clients and server."""

import asyncio


class Proxy:
    """Stands between agents and server, and now and then keeps the answers to itself before it hangs up."""

    def __init__(self, port):
        self._upstream = port
        self._deaf = asyncio.Event()
        self._writers = set()
        self._tasks = set()

    async def __aenter__(self):
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"nats://127.0.0.1:{self._listener.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_):
        self._listener.close()
        self.hang_up()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def hang_up(self):
        for writer in self._writers:
            writer.close()

    async def swallow_answers(self, seconds):
        """What agents send still arrives; what the server answers does not."""
        self._deaf.set()
        await asyncio.sleep(seconds)
        self.hang_up()
        self._deaf.clear()

    async def _serve(self, reader, writer):
        self._tasks.add(asyncio.current_task())
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._upstream)
        self._writers |= {writer, up_writer}
        await asyncio.gather(self._pump(reader, up_writer, deaf=False), self._pump(up_reader, writer, deaf=True))

    async def _pump(self, reader, writer, *, deaf):
        try:
            while data := await reader.read(65536):
                if not (deaf and self._deaf.is_set()):
                    writer.write(data)
                    await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

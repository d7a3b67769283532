"""Three local nats-servers as one JetStream cluster."""

from concurrent.futures import ThreadPoolExecutor
from typing import Self

from mesh.jetstream.server import HOST, LocalServer, free_ports


class LocalCluster:
    """Three nats-servers that form one JetStream cluster, with temporary stores, for streams with three replicas.

    Attributes:
        servers: The three; each can be killed, started and restarted alone.
    """

    def __init__(self) -> None:
        ports = free_ports(6)
        routes = ", ".join(f'"nats://{HOST}:{port}"' for port in ports[3:])
        self.servers = [
            LocalServer(
                port=port,
                name=f"mesh-{port}",
                extra_config=f'cluster {{ name: "mesh", listen: "{HOST}:{route}", routes: [{routes}] }}',
            )
            for port, route in zip(ports[:3], ports[3:], strict=True)
        ]

    @property
    def url(self) -> str:
        """Addresses of the three for clients, with commas between."""
        return ",".join(server.url for server in self.servers)

    def start(self) -> Self:
        """Starts the three and returns when all of them are in contact with the leader they elected.

        Raises:
            MeshError: As `LocalServer.start`; then none is left running.
        """
        try:
            with ThreadPoolExecutor(len(self.servers)) as pool:  # at once: one alone does not become ready
                list(pool.map(LocalServer.start, self.servers))
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Stops each as `LocalServer.stop` does."""
        for server in self.servers:
            server.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

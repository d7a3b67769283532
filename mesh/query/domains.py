"""The domains of a namespace, as the server has them."""

from mesh.contract.namespace import Namespace
from mesh.jetstream.api import Api
from mesh.jetstream.connection import Connection


async def domain_streams(connection: Connection, namespace: Namespace) -> dict[str, str]:
    """The names of the streams that hold the domains of a namespace, by domain.

    Raises:
        Unreachable: JetStream does not answer.
    """
    api = Api(connection)
    found: dict[str, str] = {}
    offset = 0
    while True:
        page = await api.call("STREAM.LIST", {"subject": namespace.domain("*"), "offset": offset})
        for stream in page["streams"] or ():
            config = stream["config"]
            domain = config.get("metadata", {}).get("mesh.domain")
            if domain and config["subjects"] == [namespace.domain(domain)]:
                found[domain] = config["name"]
        offset += page["limit"]
        if offset >= page["total"]:
            return dict(sorted(found.items()))

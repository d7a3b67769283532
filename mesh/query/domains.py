"""The domains of a namespace, as the server has them."""

from mesh.contract.namespace import Namespace
from mesh.errors import NotFound
from mesh.jetstream.api import Api
from mesh.jetstream.connection import Connection


async def domain_streams(connection: Connection, namespace: Namespace, only: str | None = None) -> dict[str, str]:
    """The names of the streams that hold the domains of a namespace, by domain.

    Args:
        connection: To the server.
        namespace: Whose domains.
        only: The one domain that is asked for; all of them when None.

    Raises:
        NotFound: The one domain does not exist.
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
            break
    if only is None:
        return dict(sorted(found.items()))
    if only not in found:
        cure = f"name one of {', '.join(sorted(found))}" if found else "provision it: mesh apply"
        raise NotFound(f"there is no domain {only}", object=only, cure=cure)
    return {only: found[only]}

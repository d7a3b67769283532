"""A message that a durable pull consumer delivered."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from nats.aio.msg import Msg

from mesh.jetstream.connection import Connection

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_V1_TOKENS = 9
"""`$JS.ACK.<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<time>.<pending>`; later forms have
`<domain>.<account>` before the stream and may have more tokens at the end."""


class PulledMessage:
    """One delivery; see `mesh.runtime.ports.Delivery`.

    Attributes:
        consumer_sequence: How many messages the consumer had delivered, this one included.
        pending: Messages that the consumer had not delivered yet.
    """

    __slots__ = (
        "_connection",
        "_reply",
        "consumer_sequence",
        "data",
        "delivered",
        "headers",
        "pending",
        "published",
        "sequence",
        "stream",
        "subject",
    )

    def __init__(self, connection: Connection, message: Msg) -> None:
        self._connection = connection
        self._reply = message.reply
        self.subject: str = message.subject
        self.headers: Mapping[str, str] = message.headers or {}
        self.data: bytes = message.data
        tokens = message.reply.split(".")
        if len(tokens) > _V1_TOKENS:
            del tokens[2:4]
        self.stream = tokens[2]
        self.delivered = int(tokens[4])
        self.sequence = int(tokens[5])
        self.consumer_sequence = int(tokens[6])
        self.published = _EPOCH + timedelta(microseconds=int(tokens[7]) // 1000)
        self.pending = int(tokens[8])

    @property
    def size(self) -> int:
        """Bytes it takes in memory, headers counted roughly."""
        return len(self.data) + 64 * len(self.headers)

    def ack(self) -> None:
        """It is done."""
        self._connection.post(self._reply, b"+ACK")

    def nak(self, delay: float = 0.0) -> None:
        """Deliver it again, after `delay` seconds."""
        self._connection.post(self._reply, b'-NAK {"delay": %d}' % int(delay * 1e9) if delay else b"-NAK")

    def term(self, reason: str) -> None:
        """Never deliver it again."""
        self._connection.post(self._reply, f"+TERM {' '.join(reason.split())}".encode())

    def in_progress(self) -> None:
        """It takes longer: start the ack wait anew."""
        self._connection.post(self._reply, b"+WPI")

"""Ids: time-ordered for roots, derived for outputs, never from clocks where a handling can repeat."""

import hashlib
import os
import time


def new_id() -> str:
    """A UUIDv7 (RFC 9562): sorts by creation time, unique without coordination."""
    millis = time.time_ns() // 1_000_000
    value = (millis << 80) | int.from_bytes(os.urandom(10), "big")
    return _uuid(value, version=7)


def output_id(source: str, event_id: str, agent: str, ordinal: int) -> str:
    """Id of the output number `ordinal` that `agent` makes of one input: the same handling, the same ids.

    Args:
        source: `ce-source` of the input.
        event_id: `ce-id` of the input.
        agent: Name of the handling agent.
        ordinal: Position among the outputs of the handling, from 0.

    Returns:
        A UUIDv8 (RFC 9562).
    """
    text = f"{source}\0{event_id}\0{agent}\0{ordinal}"
    digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
    return _uuid(int.from_bytes(digest, "big"), version=8)


def _uuid(value: int, *, version: int) -> str:
    value = value & ~(0xF000 << 64) | version << 76
    value = value & ~(0xC000 << 48) | 0x8000 << 48
    digits = f"{value:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"

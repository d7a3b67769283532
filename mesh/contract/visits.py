"""Which handlers a causal chain has passed, and how often: what tells a loop from a long story.

Written as `clerk/order_placed/7*3,packer/order_accepted/7*2`: agent, event and key, with the count of visits.
"""

from mesh.contract.namespace import encode_token


def place(agent: str, name: str, key: str) -> str:
    """A handler at work on an entity."""
    return f"{agent}/{name}/{encode_token(key)}"


def add(path: str, visited: str) -> str:
    """The path with one more visit of a place."""
    counts = _counts(path)
    counts[visited] = counts.get(visited, 0) + 1
    return ",".join(f"{where}*{count}" for where, count in counts.items())


def count(path: str, visited: str) -> int:
    """How often a path has visited a place."""
    return _counts(path).get(visited, 0)


def cycle(path: str, visited: str) -> list[str]:
    """The places that a path has visited about as often as this one, in the order of their first visit."""
    counts = _counts(path)
    often = counts.get(visited, 0)
    return [where for where, number in counts.items() if number >= often - 1]


def _counts(path: str) -> dict[str, int]:
    entries = (entry.rpartition("*") for entry in path.split(",") if entry)
    return {where: int(number) for where, star, number in entries if star and number.isdecimal()}

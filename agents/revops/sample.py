"""Made-up leads to try the team with."""
# ruff: noqa: PLR2004, S311 - the figures shape a made-up population that anybody may foresee

import random

from revops.v1.events_pb2 import LeadCaptured

JOBS = ["admin.", "blue-collar", "entrepreneur", "management", "self-employed", "services", "technician"]
MONTHS = ["apr", "may", "may", "may", "may", "jun", "jul", "jul", "aug", "oct", "nov"]


def leads(count: int, seed: int = 7) -> list[LeadCaptured]:
    """Returns `count` valid leads with the ids 1, 2, …; the same seed gives the same leads."""
    rng = random.Random(seed)
    return [lead(str(number), rng) for number in range(1, count + 1)]


def lead(lead_id: str, rng: random.Random) -> LeadCaptured:
    age = round(rng.triangular(18, 80, 36))
    known = rng.random() < 0.25  # from an earlier campaign
    return LeadCaptured(
        lead_id=lead_id,
        age=age,
        job="student" if age < 22 else "retired" if age > 64 else rng.choice(JOBS),
        marital="single" if age < 25 else rng.choice(["divorced", "married", "married", "single"]),
        education=rng.choice(["primary", "secondary", "secondary", "tertiary", "unknown"]),
        default=rng.random() < 0.02,
        balance=round(rng.lognormvariate(6.2, 1.3)) - 250,
        housing=rng.random() < 0.55,
        loan=rng.random() < 0.2,
        contact=rng.choice(["cellular", "cellular", "cellular", "telephone", "unknown"]),
        day=rng.randint(1, 28),
        month=rng.choice(MONTHS),
        campaign=rng.choice([1, 1, 1, 2, 2, 3]),
        pdays=rng.randint(30, 400) if known else -1,
        previous=rng.choice([1, 1, 2, 3]) if known else 0,
        poutcome=rng.choice(["failure", "failure", "other", "success"]) if known else "unknown",
    )

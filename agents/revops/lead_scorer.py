"""Lead scorer: how likely is this lead to convert, and what speaks for or against it?

The model is a logistic regression. `revops.train` writes its weights to `model.json`; scoring needs plain Python only.
"""

import json
import math
from collections import defaultdict
from pathlib import Path

from mesh import Agent, Context
from revops.v1.events_pb2 import LeadCaptured, LeadScored

MODEL = json.loads(Path(__file__).with_name("model.json").read_text())

agent = Agent("lead-scorer", description="Estimates the probability that a lead converts")


@agent.on
async def score(event: LeadCaptured, ctx: Context) -> LeadScored:
    return predict(event)


def predict(lead: LeadCaptured, top: int = 3) -> LeadScored:
    """Scores a lead and names the `top` columns that moved its score most."""
    parts = contributions(lead)
    log_odds = MODEL["intercept"] + sum(parts.values())
    strongest = sorted(parts.items(), key=lambda part: -abs(part[1]))[:top]
    return LeadScored(
        lead_id=lead.lead_id,
        score=1 / (1 + math.exp(-log_odds)),
        reasons=[LeadScored.Reason(column=column, contribution=value) for column, value in strongest],
    )


def contributions(lead: LeadCaptured) -> dict[str, float]:
    """Log-odds that each column adds to those of the average lead, which the model's intercept holds."""
    present = features(lead)
    parts: dict[str, float] = defaultdict(float)
    for name, feature in MODEL["features"].items():
        column = name.partition("=")[0]
        parts[column] += feature["weight"] * (present.get(name, 0.0) - feature["mean"])
    return parts


def features(lead: LeadCaptured) -> dict[str, float]:
    """Numbers the model works on; absent names are 0. The day of the month is left out: it says nothing by itself."""
    return {
        "age": lead.age,
        f"job={lead.job}": 1.0,
        f"marital={lead.marital}": 1.0,
        f"education={lead.education}": 1.0,
        "default": float(lead.default),
        "balance": math.copysign(math.log1p(abs(lead.balance)), lead.balance),
        "housing": float(lead.housing),
        "loan": float(lead.loan),
        f"contact={lead.contact}": 1.0,
        f"month={lead.month}": 1.0,
        "campaign": lead.campaign,
        # 1 on the day of the last contact, 1/2 a month later, 0 when there was none.
        "pdays": 30 / (30 + lead.pdays) if lead.pdays >= 0 else 0.0,
        "previous": math.log1p(lead.previous),
        f"poutcome={lead.poutcome}": 1.0,
    }

"""Trains the lead scorer's model on a bank marketing CSV and says how good it is on rows it has not seen.

python -m revops.train bank-marketing.csv
"""
# scikit-learn ships no types.
# mypy: disable-error-code="import-untyped"

import argparse
import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from sklearn.feature_extraction import DictVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import RepeatedStratifiedKFold, cross_val_score, train_test_split
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from revops.lead_scorer import features
from revops.v1.events_pb2 import LeadCaptured

SEED = 7
CONVERT: dict[int, Callable[[str], Any]] = {
    FieldDescriptor.CPPTYPE_BOOL: lambda text: text == "yes",
    FieldDescriptor.CPPTYPE_INT32: int,
    FieldDescriptor.CPPTYPE_STRING: str,
}


def read(path: Path) -> tuple[list[LeadCaptured], list[bool]]:
    """Leads and whether they converted. What the event has no field for, like `duration`, cannot reach the model."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    columns = [field for field in LeadCaptured.DESCRIPTOR.fields if field.name != "lead_id"]
    leads = [LeadCaptured(**{f.name: CONVERT[f.cpp_type](row[f.name]) for f in columns}) for row in rows]
    return leads, [row["y"] == "yes" for row in rows]


def pipeline() -> Pipeline:
    # Few leads convert and one-hot columns are many: strong regularisation keeps the weights modest.
    return make_pipeline(DictVectorizer(sparse=False), StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))


def fit(leads: list[LeadCaptured], converted: list[bool]) -> tuple[dict[str, Any], dict[str, float]]:
    """Fits on three quarters of the leads and measures on the rest; returns that very model and its figures."""
    table = [features(lead) for lead in leads]
    split = train_test_split(table, converted, test_size=0.25, stratify=converted, random_state=SEED)
    seen, unseen, seen_converted, unseen_converted = split
    fitted = pipeline().fit(seen, seen_converted)
    folds = RepeatedStratifiedKFold(n_splits=5, n_repeats=4, random_state=SEED)
    cross = cross_val_score(pipeline(), table, converted, scoring="roc_auc", cv=folds)
    return export(fitted), {
        "held-out AUC": roc_auc_score(unseen_converted, fitted.predict_proba(unseen)[:, 1]),
        "cross-validated AUC": cross.mean(),
        "its standard deviation over folds": cross.std(),
    }


def export(fitted: Pipeline) -> dict[str, Any]:
    """Undoes the scaling, so that a weight applies to a feature as `features` returns it."""
    names, scaler, regression = (step for _, step in fitted.steps)
    weights = regression.coef_[0] / scaler.scale_
    return {
        "intercept": round(float(regression.intercept_[0]), 6),
        "features": {
            name: {"mean": round(float(mean), 6), "weight": round(float(weight), 6)}
            for name, mean, weight in zip(names.get_feature_names_out(), scaler.mean_, weights, strict=True)
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the lead scorer's model.")
    parser.add_argument("csv", type=Path, help="bank marketing CSV with a column y")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("model.json"), help="default: %(default)s")
    args = parser.parse_args()
    leads, converted = read(args.csv)
    model, figures = fit(leads, converted)
    args.out.write_text(json.dumps(model, indent=2) + "\n")
    print(f"{len(leads)} leads, {sum(converted)} converted, seed {SEED}")
    for name, value in figures.items():
        print(f"{name}: {value:.3f}")


if __name__ == "__main__":
    main()

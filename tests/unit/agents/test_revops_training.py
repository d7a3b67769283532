import csv
import random

import pytest

from revops import lead_scorer, train
from revops.sample import leads


def write(path, *, duration):
    """A CSV of sample leads that convert when an earlier campaign won them, and now and then otherwise."""
    rng = random.Random(1)  # noqa: S311 - made-up answers
    with path.open("w", newline="") as file:
        columns = [field.name for field in leads(1)[0].DESCRIPTOR.fields if field.name != "lead_id"]
        rows = csv.DictWriter(file, [*columns, "duration", "y"])
        rows.writeheader()
        for lead in leads(400):
            values = {column: getattr(lead, column) for column in columns}
            row = {name: ("no", "yes")[value] if isinstance(value, bool) else value for name, value in values.items()}
            converted = lead.poutcome == "success" or rng.random() < 0.1
            rows.writerow(row | {"duration": duration(converted), "y": ("no", "yes")[converted]})
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    path = write(tmp_path_factory.mktemp("data") / "leads.csv", duration=lambda converted: 900 if converted else 10)
    return train.fit(*train.read(path))


def test_rows_are_read_as_the_event_carries_them(tmp_path):
    read, converted = train.read(write(tmp_path / "leads.csv", duration=lambda _: 0))

    for lead in (sample := leads(400)):
        lead.lead_id = ""
    assert read == sample
    assert 0 < sum(converted) < 400


def test_the_length_of_the_call_cannot_leak_into_the_model(trained, tmp_path):
    model, figures = trained
    same = write(tmp_path / "leads.csv", duration=lambda _: 0)

    assert train.fit(*train.read(same)) == (model, figures)
    assert "duration" not in model["features"]


def test_the_model_learns_what_decides_and_is_measured_on_leads_it_has_not_seen(trained):
    model, figures = trained
    weights = {name: feature["weight"] for name, feature in model["features"].items()}

    assert max(weights, key=weights.get) == "poutcome=success"
    assert 0.6 < figures["held-out AUC"] < 1


def test_the_committed_model_is_what_training_writes(real_data):
    model, _ = train.fit(*train.read(real_data("bank-marketing.csv")))

    assert model["features"].keys() == lead_scorer.MODEL["features"].keys()
    for name, feature in model["features"].items():
        assert feature == pytest.approx(lead_scorer.MODEL["features"][name], abs=1e-4)

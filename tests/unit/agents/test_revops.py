import math

import protovalidate
import pytest

from revops import lead_scorer, outreach, pricing, train
from revops.sample import leads
from revops.v1.events_pb2 import LeadCaptured, LeadContacted, LeadScored, LeadSkipped, OfferPriced


def lead(**changes):
    plain = LeadCaptured(
        lead_id="1", age=40, job="technician", marital="married", education="secondary", balance=500, housing=True,
        contact="cellular", day=5, month="may", campaign=1, pdays=-1, previous=0, poutcome="unknown",
    )  # fmt: skip
    plain.MergeFrom(LeadCaptured(**changes))
    return plain


def violated(message):
    with pytest.raises(protovalidate.ValidationError) as caught:
        protovalidate.validate(message)
    return [violation.proto.rule_id for violation in caught.value.violations]


def test_the_event_has_no_field_that_knows_the_answer():
    assert {"duration", "y"}.isdisjoint(LeadCaptured.DESCRIPTOR.fields_by_name)


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"age": 7}, "int32.gte_lte"),
        ({"age": 300}, "int32.gte_lte"),
        ({"job": "astronaut"}, "string.in"),
        ({"marital": "yes"}, "string.in"),
        ({"education": "none"}, "string.in"),
        ({"contact": "pigeon"}, "string.in"),
        ({"day": 32}, "int32.gte_lte"),
        ({"month": "May"}, "string.in"),
        ({"campaign": -1}, "int32.gte"),
        ({"pdays": -2, "previous": 1}, "int32.gte"),
        ({"poutcome": "won"}, "string.in"),
        ({"pdays": 90}, "lead.earlier_contacts"),
        ({"previous": 2}, "lead.earlier_contacts"),
    ],
)
def test_nonsense_violates_the_contract(changes, rule):
    protovalidate.validate(lead())

    assert violated(lead(**changes)) == [rule]


def test_a_lead_without_an_id_violates_the_contract():
    anonymous = lead()
    anonymous.lead_id = ""

    assert violated(anonymous) == ["string.min_len"]


def test_every_real_row_satisfies_the_contract(real_data):
    rows, _ = train.read(real_data("bank-marketing.csv"))

    for number, row in enumerate(rows):
        row.lead_id = str(number)
        protovalidate.validate(row)
    assert rows


def test_sample_leads_are_valid_and_the_same_for_the_same_seed():
    sample = leads(200)

    for one in sample:
        protovalidate.validate(one)
    assert len({one.lead_id for one in sample}) == 200
    assert leads(200) == sample
    assert leads(200, seed=8) != sample


def test_the_score_is_the_intercept_plus_the_contribution_of_every_column():
    parts = lead_scorer.contributions(lead())
    score = lead_scorer.predict(lead()).score

    assert math.log(score / (1 - score)) == pytest.approx(lead_scorer.MODEL["intercept"] + sum(parts.values()))


def test_a_lead_that_was_won_before_scores_higher_than_one_that_was_lost():
    earlier = {"pdays": 90, "previous": 1}

    won = lead_scorer.predict(lead(poutcome="success", **earlier))
    lost = lead_scorer.predict(lead(poutcome="failure", **earlier))

    assert won.score > lost.score
    assert "poutcome" in [reason.column for reason in won.reasons]


def test_a_feature_moves_the_score_in_the_direction_of_its_weight_and_never_back():
    weight = lead_scorer.MODEL["features"]["balance"]["weight"]
    scores = [lead_scorer.predict(lead(balance=balance)).score for balance in (-900, -10, 10, 900, 20_000)]

    assert weight != 0
    assert sorted(scores, reverse=weight < 0) == scores
    assert len(set(scores)) == len(scores)


def test_reasons_are_the_strongest_columns_first():
    scored = lead_scorer.predict(lead(), top=4)
    strengths = [abs(reason.contribution) for reason in scored.reasons]

    weaker = lead_scorer.contributions(lead())
    for reason in scored.reasons:
        assert weaker.pop(reason.column) == reason.contribution
    assert strengths == sorted(strengths, reverse=True)
    assert len(strengths) == 4
    assert strengths[-1] >= max(map(abs, weaker.values()))


def test_the_day_of_the_month_does_not_matter():
    assert lead_scorer.predict(lead(day=1)) == lead_scorer.predict(lead(day=31))


@pytest.mark.parametrize(
    ("score", "discount", "cents"),
    [(0.0, 0, 12_000), (0.05, 20, 9_600), (0.149, 20, 9_600), (0.15, 10, 10_800), (0.4, 0, 12_000), (1.0, 0, 12_000)],
)
def test_a_discount_goes_to_leads_that_it_can_move(score, discount, cents):
    offer = pricing.offer(LeadScored(lead_id="1", score=score))

    protovalidate.validate(offer)
    assert (offer.discount_percent, offer.price_cents, offer.score) == (discount, cents, score)


def offer(score, **changes):
    priced = OfferPriced(lead_id="1", score=score, price_cents=10_000, currency="EUR")
    priced.MergeFrom(OfferPriced(**changes))
    return priced


def test_a_lead_is_contacted_only_when_the_expected_revenue_exceeds_the_cost_of_a_call():
    assert isinstance(outreach.decide(offer(0.0601)), LeadContacted)
    assert isinstance(outreach.decide(offer(0.06)), LeadSkipped)


def test_the_reason_names_both_sides_of_the_comparison():
    assert outreach.decide(offer(0.5)).reason == "expected revenue 50.00 EUR, a call costs 6.00 EUR"


def test_a_lead_is_told_the_price_and_the_discount_if_there_is_one():
    assert outreach.message(offer(0.5)) == "Your savings account for 100.00 EUR in the first year."
    assert outreach.message(offer(0.5, discount_percent=20)).endswith("in the first year, 20 % off.")


def test_every_sample_lead_goes_all_the_way_and_ends_contacted_or_skipped():
    outcomes = [outreach.decide(pricing.offer(lead_scorer.predict(one))) for one in leads(300)]

    for outcome in outcomes:
        protovalidate.validate(outcome)
    assert {type(outcome) for outcome in outcomes} == {LeadContacted, LeadSkipped}

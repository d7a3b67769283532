import json

import pytest
from billing.v1.events_pb2 import InvoiceRequested
from google.protobuf import json_format
from shop.v1.events_pb2 import OrderPlaced, PackOrder

from mesh import Agent, Context
from mesh.contract.namespace import Address
from mesh.runtime.incoming import Router, Undeliverable, decode

ORDER = OrderPlaced(order_id="7", quantity=3)
AT = Address("shop", "evt", "order_placed", "7")


def handle(event, ctx: Context) -> None: ...


@pytest.fixture
def agent():
    agent = Agent("seller")
    for message in (OrderPlaced, PackOrder, InvoiceRequested):
        agent.on(message)(handle)
    return agent


@pytest.fixture
def router(names, agent):
    return Router(names, "seller", agent.handlers)


@pytest.fixture
def decoded(agent):
    """Decodes a delivery under the address of order 7."""
    return lambda delivery: decode(delivery, AT, agent.handlers[0])


def refusal(decoded, delivery):
    with pytest.raises(Undeliverable) as refused:
        decoded(delivery)
    return refused.value


@pytest.mark.parametrize(
    ("subject", "event"),
    [
        ("mesh.shop.evt.order_placed.7", "order_placed"),
        ("mesh.shop.cmd.pack_order.7", "pack_order"),
        ("mesh.billing.evt.invoice_requested.1", "invoice_requested"),
        ("mesh.shop.redo.seller.order_placed.7", "order_placed"),
        ("mesh.shop.redo.seller.pack_order.7", "pack_order"),
    ],
)
def test_a_subject_leads_to_its_handler(router, subject, event):
    assert router.handler(router.address(subject)).event.name == event


@pytest.mark.parametrize(
    "subject",
    [
        "other.shop.evt.order_placed.7", "mesh.shop.redo.rival.order_placed.7", "mesh.shop.state.stock.a",
        "mesh.shop.dead.seller.order_placed.7", "mesh.shop.done.seller.7", "mesh.shop.out.billing.order_placed.7", "in",
    ],
)  # fmt: skip
def test_a_subject_that_the_agent_does_not_read_has_no_address(router, subject):
    assert router.address(subject) is None


@pytest.mark.parametrize(
    "subject",
    ["mesh.shop.evt.order_returned.7", "mesh.billing.evt.order_placed.7", "mesh.shop.cmd.order_placed.7"],
)
def test_an_event_of_another_version_has_an_address_and_no_handler(router, subject):
    assert router.handler(router.address(subject)) is None


def test_a_delivery_is_decoded_with_its_attributes(decoded, delivery):
    incoming = decoded(delivery(ORDER, headers={"ce-id": "e1", "ce-correlationid": "root", "mesh-hops": "3"}))

    assert (incoming.message, incoming.key, incoming.redo) == (ORDER, "7", 0)
    assert (incoming.event.id, incoming.event.correlation_id, incoming.event.hops) == ("e1", "root", 3)


def test_an_event_without_headers_is_known_by_its_place(decoded, delivery):
    incoming = decoded(delivery(ORDER, headers={}, sequence=9))

    assert (incoming.event.id, incoming.event.correlation_id) == ("MESH_SHOP:9", "MESH_SHOP:9")


@pytest.mark.parametrize("content_type", ["application/json", "application/json; charset=utf-8"])
def test_json_is_read_and_unknown_fields_are_ignored(decoded, delivery, content_type):
    payload = b'{"orderId": "7", "quantity": 3, "colour": "red"}'

    assert decoded(delivery(ORDER, data=payload, headers={"ce-datacontenttype": content_type})).message == ORDER


@pytest.mark.parametrize("header", ["Content-Type", "content-type"])
def test_a_structured_cloud_event_is_read(decoded, delivery, header):
    envelope = {"specversion": "1.0", "id": "s1", "source": "/erp", "data": json_format.MessageToDict(ORDER)}

    incoming = decoded(
        delivery(ORDER, data=json.dumps(envelope).encode(), headers={header: "application/cloudevents+json"})
    )

    assert (incoming.message, incoming.event.id, incoming.event.source) == (ORDER, "s1", "/erp")


@pytest.mark.parametrize(
    ("data", "headers"),
    [
        (b"\xff", {}),
        (b"{", {"ce-datacontenttype": "application/json"}),
        (b"\xff", {"ce-datacontenttype": "application/json"}),
        (b"[" * 200_000, {"ce-datacontenttype": "application/json"}),
        (b'{"quantity": "many"}', {"ce-datacontenttype": "application/json"}),
        (b"[]", {"Content-Type": "application/cloudevents+json"}),
        (b"[" * 200_000, {"Content-Type": "application/cloudevents+json"}),
        (b"<xml/>", {"ce-datacontenttype": "application/xml"}),
    ],
    ids=["garbage", "half", "bytes", "deep", "wrong type", "no envelope", "deep envelope", "xml"],
)
def test_what_does_not_decode_is_undeliverable(decoded, delivery, data, headers):
    error = refusal(decoded, delivery(ORDER, data=data, headers=headers))

    assert (error.code, error.object) == ("undecodable", "shop.v1.OrderPlaced")
    assert str(error).startswith("mesh.shop.evt.order_placed.7 is not a shop.v1.OrderPlaced")
    assert "many" not in str(error), "a value may be personal"


def test_what_violates_its_constraints_is_undeliverable(decoded, delivery):
    error = refusal(decoded, delivery(OrderPlaced(order_id="7", quantity=-1)))

    assert error.code == "invalid"
    assert "quantity" in str(error)


@pytest.mark.parametrize("order_id", ["", "8"])
def test_an_event_under_a_key_that_is_not_its_own_is_undeliverable(decoded, delivery, order_id):
    subject = "mesh.shop.evt.order_placed.7"

    assert refusal(decoded, delivery(OrderPlaced(order_id=order_id), subject=subject)).code == "invalid"


def test_an_event_too_deep_in_a_chain_is_undeliverable(decoded, delivery):
    assert decoded(delivery(ORDER, headers={"mesh-hops": "64"})).event.hops == 64
    assert refusal(decoded, delivery(ORDER, headers={"mesh-hops": "65"})).code == "too_many_hops"


@pytest.mark.parametrize(
    ("header", "redo"), [("2", 2), ("", 0), ("-1", 0), ("x", 0), ("9" * 18, 2**32 - 1), ("9" * 5000, 0)]
)
def test_the_number_of_redrives_is_read_whoever_wrote_it(decoded, delivery, header, redo):
    assert decoded(delivery(ORDER, headers={"mesh-redo": header})).redo == redo

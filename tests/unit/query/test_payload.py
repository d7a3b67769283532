import pytest
from shop.v1.events_pb2 import OrderPlaced

from mesh.contract.generated import event_type
from mesh.errors import ContractError, UsageError
from mesh.query.payload import parse_object, to_message

PLACED = event_type(OrderPlaced)


def test_fields_go_by_the_name_of_the_proto_file_and_by_their_json_name():
    expected = OrderPlaced(order_id="7", quantity=2)

    assert to_message(PLACED, {"order_id": "7", "quantity": 2}) == expected
    assert to_message(PLACED, {"orderId": "7", "quantity": "2"}) == expected


def test_a_field_that_does_not_exist_is_named_with_those_that_do():
    with pytest.raises(ContractError) as refusal:
        to_message(PLACED, {"order_id": "7", "amount": 2})

    assert (refusal.value.code, refusal.value.object) == ("unknown_field", "shop.v1.OrderPlaced.amount")
    assert refusal.value.cure == "its fields are order_id, quantity, email, attachment"


@pytest.mark.parametrize("value", ["many", 2**31, 1.5, [1], {"a": 1}, True])
def test_a_value_of_another_kind_is_refused_with_the_field(value):
    with pytest.raises(ContractError, match="quantity") as refusal:
        to_message(PLACED, {"quantity": value})

    assert refusal.value.code == "bad_value"


@pytest.mark.parametrize("text", ["", "{", "nonsense", "[1]", "7", "null", '"text"', "[" * 100_000])
def test_what_is_no_json_object_is_a_wrong_command_line(text):
    with pytest.raises(UsageError) as refusal:
        parse_object(text)

    assert refusal.value.code == "bad_json"

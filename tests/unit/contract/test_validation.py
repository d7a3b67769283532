import pytest
from shop.v1.events_pb2 import OrderAccepted, OrderPlaced

from mesh.contract.validation import validate
from mesh.errors import ContractError


def test_a_valid_message_passes():
    validate(OrderPlaced(order_id="1", quantity=0))
    validate(OrderAccepted())


def test_an_invalid_message_is_refused_with_the_field_and_the_rule_but_without_the_value():
    with pytest.raises(ContractError) as refused:
        validate(OrderPlaced(order_id="1", quantity=-4711))

    assert (refused.value.code, refused.value.object) == ("invalid", "shop.v1.OrderPlaced")
    assert str(refused.value) == "shop.v1.OrderPlaced is invalid: quantity must be greater than or equal to 0"

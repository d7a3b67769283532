import pytest
from shop.v1.events_pb2 import OrderPlaced, PackOrder

from mesh.contract.generated import event_type
from mesh.contract.namespace import Namespace
from mesh.query.follow import Selection

NAMES = Namespace("m")


@pytest.mark.parametrize(
    ("selection", "filters"),
    [
        (Selection(), ["m.shop.evt.*.*", "m.shop.cmd.*.*", "m.shop.dead.*.>"]),
        (Selection(domain="shop"), ["m.shop.evt.*.*", "m.shop.cmd.*.*", "m.shop.dead.*.>"]),
        (Selection(domain="billing"), []),
        (Selection(key="a.b"), ["m.shop.evt.*.a%2Eb", "m.shop.cmd.*.a%2Eb", "m.shop.dead.*.>"]),
        (Selection(type=event_type(OrderPlaced)), ["m.shop.evt.order_placed.*", "m.shop.dead.*.>"]),
        (Selection(type=event_type(PackOrder), key="7"), ["m.shop.cmd.pack_order.7", "m.shop.dead.*.>"]),
        (Selection(type=event_type(OrderPlaced), domain="billing"), []),
        (Selection(agent="clerk"), ["m.shop.evt.*.*", "m.shop.cmd.*.*", "m.shop.dead.clerk.>"]),
    ],
)
def test_a_selection_reads_as_few_subjects_of_a_domain_as_the_server_can_tell_apart(selection, filters):
    assert selection.filters(NAMES, "shop") == filters


def test_a_type_is_looked_for_in_its_own_domain_only():
    assert Selection(type=event_type(OrderPlaced)).filters(NAMES, "billing") == []

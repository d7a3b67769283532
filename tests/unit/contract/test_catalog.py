import pytest
from billing.v1.events_pb2 import InvoiceRequested
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from shop.v1.events_pb2 import OrderAccepted, OrderPlaced, Stock

from mesh.contract.catalog import Catalog, covers, pack, unpack
from mesh.contract.event_type import Kind
from mesh.contract.generated import event_type
from mesh.contract.pii import masked
from mesh.contract.validation import validate
from mesh.errors import ContractError, NotFound


@pytest.fixture
def catalog():
    return Catalog(map(event_type, (Stock, OrderPlaced, OrderAccepted, InvoiceRequested)))


@pytest.mark.parametrize("text", ["shop.v1.OrderPlaced", "shop.order_placed", "OrderPlaced"])
def test_a_type_is_found_by_each_of_its_names(catalog, text):
    assert catalog.find(text) is event_type(OrderPlaced)


def test_a_name_that_nothing_has_is_answered_with_the_names_there_are(catalog):
    with pytest.raises(NotFound, match="no event, command or state is called order_placed") as missing:
        catalog.find("order_placed")

    assert missing.value.object == "order_placed"
    assert missing.value.cure == (
        "write one of billing.v1.InvoiceRequested, shop.v1.OrderAccepted, shop.v1.OrderPlaced, shop.v1.Stock"
    )


def test_an_empty_catalog_says_where_types_come_from():
    with pytest.raises(NotFound, match="start an agent that handles it"):
        Catalog().find("OrderPlaced")


def test_a_short_name_that_several_types_have_is_not_guessed(catalog):
    files = renamed(pack(event_type(OrderPlaced)), "shop.v1", "market.v1")
    catalog.add(unpack(files, "market.v1"))

    with pytest.raises(NotFound, match=r"several types are called OrderPlaced: write one of market\.v1\.OrderPlaced, "):
        catalog.find("OrderPlaced")


def test_types_are_listed_by_full_name_and_found_by_place(catalog):
    assert [t.descriptor.name for t in catalog] == ["InvoiceRequested", "OrderAccepted", "OrderPlaced", "Stock"]
    assert catalog.at("shop", "evt", "order_placed") is catalog.get("shop.v1.OrderPlaced") is event_type(OrderPlaced)
    assert catalog.at("shop", "cmd", "order_placed") is catalog.get("OrderPlaced") is None


def test_a_package_is_the_same_without_its_generated_code():
    original = event_type(OrderPlaced)
    wire = FileDescriptorSet.FromString(pack(original).SerializeToString())

    types = {t.full_name: t for t in unpack(wire, "shop.v1")}

    copy = types["shop.v1.OrderPlaced"]
    assert copy.descriptor is not original.descriptor
    assert (copy.kind, copy.domain) == (Kind.EVENT, original.domain)
    assert (copy.name, copy.key_field) == ("order_placed", "order_id")
    assert {t.label for t in types.values()} == {
        "shop.order_placed", "shop.order_accepted", "shop.order_refused", "shop.pack_order", "shop.stock",
    }  # fmt: skip


def test_a_message_is_decoded_masked_and_checked_without_its_generated_code():
    [placed] = [t for t in unpack(pack(event_type(OrderPlaced)), "shop.v1") if t.name == "order_placed"]
    payload = OrderPlaced(order_id="7", quantity=-1, email="a@b.c").SerializeToString()

    message = placed.message.FromString(payload)

    assert (placed.key(message), message.quantity, masked(message).email) == ("7", -1, "***")
    with pytest.raises(ContractError, match="quantity"):
        validate(message)


def test_a_package_comes_with_what_it_imports_and_dependencies_come_first():
    names = [file.name for file in pack(event_type(OrderPlaced)).file]

    assert names[-1] == "shop/v1/events.proto"
    assert names.index("google/protobuf/descriptor.proto") < names.index("mesh/v1/options.proto")
    assert len(names) == len(set(names))


def test_a_contract_covers_an_older_one_that_has_fewer_messages_and_fields():
    newer, older = pack(event_type(OrderPlaced)), pack(event_type(OrderPlaced))
    del older.file[-1].message_type[0].field[3]
    del older.file[-1].message_type[1]

    assert covers(newer, newer)
    assert covers(newer, older)
    assert not covers(older, newer)


def renamed(files, package, other):
    """The same files under another Protobuf package."""
    copy = FileDescriptorSet()
    copy.CopyFrom(files)
    copy.file[-1].package = other
    copy.file[-1].name = f"{other.replace('.', '/')}/events.proto"
    assert files.file[-1].package == package
    return copy

"""What the author of a `.proto` file gets: types when it keeps the rules, and an error that says what to do."""

import importlib
from datetime import timedelta
from textwrap import dedent

import pytest
from billing.v1.events_pb2 import InvoiceRequested
from shop.v1.events_pb2 import Address, OrderPlaced, PackOrder, Stock

from mesh.cli.proto import generate
from mesh.contract.declaration import snake_case
from mesh.contract.event_type import Kind
from mesh.contract.generated import event_type, importable_types
from mesh.contract.namespace import Namespace
from mesh.errors import ContractError

PROTOS = {
    "good/v1/events.proto": """
        option (mesh.v1.domain) = {name: "good" max_age: {seconds: 3600}};
        message Renamed {
          option (mesh.v1.event) = {name: "other_name"};
          int64 row = 1 [(mesh.v1.key) = true];
        }
        message Thing { option (mesh.v1.event) = {}; string thing_id = 1 [(mesh.v1.key) = true]; }
        """,
    "good/v2/events.proto": """
        option (mesh.v1.domain) = {name: "good" max_age: {seconds: 3600}};
        message Thing { option (mesh.v1.event) = {name: "thing_v2"}; string thing_id = 1 [(mesh.v1.key) = true]; }
        """,
    "split/v1/domain.proto": """
        option (mesh.v1.domain) = {name: "split"};
        """,
    "split/v1/events.proto": """
        message Happened { option (mesh.v1.event) = {}; string id = 1 [(mesh.v1.key) = true]; }
        """,
    "no_key/v1/events.proto": """
        option (mesh.v1.domain) = {name: "no_key"};
        message Happened { option (mesh.v1.event) = {}; string id = 1; }
        """,
    "two_keys/v1/events.proto": """
        option (mesh.v1.domain) = {name: "two_keys"};
        message Happened {
          option (mesh.v1.event) = {};
          string left = 1 [(mesh.v1.key) = true];
          string right = 2 [(mesh.v1.key) = true];
        }
        """,
    "float_key/v1/events.proto": """
        option (mesh.v1.domain) = {name: "float_key"};
        message Happened { option (mesh.v1.event) = {}; double id = 1 [(mesh.v1.key) = true]; }
        """,
    "bytes_key/v1/events.proto": """
        option (mesh.v1.domain) = {name: "bytes_key"};
        message Happened { option (mesh.v1.event) = {}; bytes id = 1 [(mesh.v1.key) = true]; }
        """,
    "repeated_key/v1/events.proto": """
        option (mesh.v1.domain) = {name: "repeated_key"};
        message Happened { option (mesh.v1.event) = {}; repeated string id = 1 [(mesh.v1.key) = true]; }
        """,
    "bad_name/v1/events.proto": """
        option (mesh.v1.domain) = {name: "bad_name"};
        message Happened { option (mesh.v1.event) = {name: "Bad Name"}; string id = 1 [(mesh.v1.key) = true]; }
        """,
    "one_subject/v1/events.proto": """
        option (mesh.v1.domain) = {name: "one_subject"};
        message First { option (mesh.v1.event) = {name: "same"}; string id = 1 [(mesh.v1.key) = true]; }
        message Second { option (mesh.v1.event) = {name: "same"}; string id = 1 [(mesh.v1.key) = true]; }
        """,
    "one_name/v1/events.proto": """
        option (mesh.v1.domain) = {name: "one_name"};
        message Pack { option (mesh.v1.event) = {}; string id = 1 [(mesh.v1.key) = true]; }
        message PackNow { option (mesh.v1.command) = {name: "pack"}; string id = 1 [(mesh.v1.key) = true]; }
        """,
    "state_name/v1/events.proto": """
        option (mesh.v1.domain) = {name: "state_name"};
        message Lead { option (mesh.v1.event) = {}; string id = 1 [(mesh.v1.key) = true]; }
        message LeadState { option (mesh.v1.state) = {name: "lead"}; string id = 1 [(mesh.v1.key) = true]; }
        """,
    "versions/v1/events.proto": """
        option (mesh.v1.domain) = {name: "versions"};
        message Happened { option (mesh.v1.event) = {}; string id = 1 [(mesh.v1.key) = true]; }
        """,
    "versions/v2/events.proto": """
        option (mesh.v1.domain) = {name: "versions"};
        message Happened { option (mesh.v1.event) = {}; string id = 1 [(mesh.v1.key) = true]; }
        """,
    "no_domain/v1/events.proto": """
        message Happened { option (mesh.v1.event) = {}; string id = 1 [(mesh.v1.key) = true]; }
        """,
    "two_domains/v1/events.proto": """
        option (mesh.v1.domain) = {name: "two_domains"};
        message Happened { option (mesh.v1.event) = {}; string id = 1 [(mesh.v1.key) = true]; }
        """,
    "two_domains/v1/more.proto": """
        option (mesh.v1.domain) = {name: "two_domains"};
        """,
    "reserved/v1/events.proto": """
        option (mesh.v1.domain) = {name: "journal"};
        message Happened { option (mesh.v1.event) = {}; string id = 1 [(mesh.v1.key) = true]; }
        """,
    "dashed/v1/events.proto": """
        option (mesh.v1.domain) = {name: "dashed-domain"};
        message Happened { option (mesh.v1.event) = {}; string id = 1 [(mesh.v1.key) = true]; }
        """,
    "no_age/v1/events.proto": """
        option (mesh.v1.domain) = {name: "no_age" max_age: {nanos: 500000000}};
        message Happened { option (mesh.v1.event) = {}; string id = 1 [(mesh.v1.key) = true]; }
        """,
    "both/v1/events.proto": """
        option (mesh.v1.domain) = {name: "both"};
        message Happened {
          option (mesh.v1.event) = {};
          option (mesh.v1.command) = {};
          string id = 1 [(mesh.v1.key) = true];
        }
        """,
    "packageless.proto": """
        option (mesh.v1.domain) = {name: "packageless"};
        message Happened { option (mesh.v1.event) = {}; string id = 1 [(mesh.v1.key) = true]; }
        """,
}


@pytest.fixture(scope="module", autouse=True)
def generated(tmp_path_factory):
    """Compiles all contracts at once and makes them importable."""
    protos, out = tmp_path_factory.mktemp("protos"), tmp_path_factory.mktemp("out")
    for name, body in PROTOS.items():
        path = protos / name
        path.parent.mkdir(parents=True, exist_ok=True)
        package = ".".join(name.split("/")[:-1])
        header = f"package {package};" if package else ""
        path.write_text(f'syntax = "proto3"; {header} import "mesh/v1/options.proto";{dedent(body)}')
    generate(protos, out)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(out)
        yield


def message(module, name="Happened"):
    return getattr(importlib.import_module(module), name)


def refusal(module, name="Happened"):
    with pytest.raises(ContractError) as refused:
        event_type(message(module, name))
    return refused.value


@pytest.mark.parametrize(
    ("package", "code", "names", "cure"),
    [
        ("no_key.v1", "key_field", "no_key.v1.Happened (no_key/v1/events.proto)", "(mesh.v1.key) = true"),
        ("two_keys.v1", "key_field", "marks left and right", "mark the one field"),
        ("float_key.v1", "key_field", "float_key.v1.Happened (float_key/v1/events.proto)", "a string or an integer"),
        ("bytes_key.v1", "key_field", "bytes_key.v1.Happened (bytes_key/v1/events.proto)", "a string or an integer"),
        ("repeated_key.v1", "key_field", "the key field id", "a string or an integer"),
        ("bad_name.v1", "bad_event_name", "bad_name.v1.Happened (bad_name/v1/events.proto)", "lower-case letter"),
        ("no_domain.v1", "domain", "package no_domain.v1", 'option (mesh.v1.domain) = { name: "no_domain" };'),
        ("two_domains.v1", "domain", "two_domains/v1/events.proto and two_domains/v1/more.proto", "in one file"),
        ("reserved.v1", "bad_domain_name", "reserved/v1/events.proto", "none of: journal"),
        ("dashed.v1", "bad_domain_name", "'dashed-domain'", "letters, digits or underscores"),
        ("no_age.v1", "bad_max_age", "no_age/v1/events.proto", "at least one second"),
        ("both.v1", "several_kinds", "(both/v1/events.proto) is marked as event and command", "keep one"),
    ],
)
def test_a_broken_contract_is_refused_with_its_place_and_its_cure(package, code, names, cure):
    error = refusal(f"{package}.events_pb2")

    assert error.code == code
    assert names in str(error)
    assert cure in error.cure
    assert error.object


def test_two_messages_of_a_package_may_not_claim_one_name():
    error = refusal("one_subject.v1.events_pb2", "First")

    assert "one_subject.v1.First (one_subject/v1/events.proto)" in str(error)
    assert "one_subject.v1.Second (one_subject/v1/events.proto)" in str(error)
    assert error.code == "name_claimed_twice"
    assert 'option (mesh.v1.event) = { name: "same_v2" };' in error.cure


def test_two_packages_of_a_domain_may_not_claim_one_name():
    first = event_type(message("versions.v1.events_pb2"))
    error = refusal("versions.v2.events_pb2")

    assert first.label == "versions.happened"
    assert (error.code, error.object) == ("name_claimed_twice", "versions.v2.Happened")
    assert "versions.v1.Happened (versions/v1/events.proto)" in str(error)


def test_an_event_and_a_command_of_a_domain_may_not_share_a_name():
    """Redrives and durables are named by the event alone."""
    error = refusal("one_name.v1.events_pb2", "PackNow")

    assert (error.code, error.object) == ("name_claimed_twice", "one_name.v1.PackNow")
    assert "one_name.v1.Pack (one_name/v1/events.proto)" in str(error)


def test_a_state_may_be_called_like_an_event():
    assert event_type(message("state_name.v1.events_pb2", "Lead")).name == "lead"
    assert event_type(message("state_name.v1.events_pb2", "LeadState")).name == "lead"


def test_a_message_without_an_option_is_refused():
    with pytest.raises(ContractError) as refused:
        event_type(Address)

    assert str(refused.value).startswith("shop.v1.Address (shop/v1/events.proto) is neither")
    assert refused.value.code == "not_an_event"
    assert "option (mesh.v1.event)" in refused.value.cure


def test_two_versions_live_side_by_side_when_the_second_is_named():
    labels = {event_type(message(f"good.{version}.events_pb2", "Thing")).label for version in ("v1", "v2")}

    assert labels == {"good.thing", "good.thing_v2"}


def test_a_domain_may_be_declared_in_a_file_of_its_own():
    assert event_type(message("split.v1.events_pb2")).domain.name == "split"


def test_a_contract_without_a_package_is_read():
    assert event_type(message("packageless_pb2")).full_name == "Happened"


def test_all_versions_of_an_importable_package_are_found():
    found = {t.full_name for t in importable_types("good")}

    assert found == {"good.v1.Renamed", "good.v1.Thing", "good.v2.Thing"}
    assert importable_types("good.v1.events_pb2.Thing") == importable_types("nowhere") == []


def test_an_event_type_is_the_same_object_every_time():
    assert event_type(OrderPlaced) is event_type(OrderPlaced)


@pytest.mark.parametrize(
    ("cls", "kind", "label", "entity_type"),
    [
        (OrderPlaced, Kind.EVENT, "shop.order_placed", "order"),
        (PackOrder, Kind.COMMAND, "shop.pack_order", "order"),
        (Stock, Kind.STATE, "shop.stock", "shelf"),
        (InvoiceRequested, Kind.EVENT, "billing.invoice_requested", "invoice_number"),
    ],
)
def test_a_type_knows_its_kind_label_and_entity(cls, kind, label, entity_type):
    found = event_type(cls)

    assert (found.kind, found.label, found.entity_type) == (kind, label, entity_type)
    assert found.message is cls


def test_names_and_retention_come_from_the_options():
    renamed = event_type(message("good.v1.events_pb2", "Renamed"))

    assert (renamed.name, renamed.entity_type) == ("other_name", "row")
    assert renamed.domain.max_age == timedelta(hours=1)
    assert event_type(OrderPlaced).domain.max_age == timedelta(days=30)


def test_a_key_may_be_an_integer():
    kind = event_type(InvoiceRequested)

    key = kind.key(InvoiceRequested(invoice_number=2**64 - 1))

    assert kind.subject(Namespace("acme"), key) == "acme.billing.evt.invoice_requested.18446744073709551615"


@pytest.mark.parametrize(
    ("key", "code", "cure"), [("", "empty_key", "give it a value"), ("x" * 181, "key_too_long", "use a shorter key")]
)
def test_a_key_that_fits_no_subject_is_refused(key, code, cure):
    with pytest.raises(ContractError) as refused:
        event_type(OrderPlaced).key(OrderPlaced(order_id=key))

    assert (refused.value.code, refused.value.object) == (code, "shop.v1.OrderPlaced.order_id")
    assert cure in refused.value.cure


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("LeadScored", "lead_scored"),
        ("HTTPCall2", "http_call2"),
        ("V2Event", "v2_event"),
        ("Sale", "sale"),
        ("already_snake", "already_snake"),
    ],
)
def test_an_event_is_called_like_its_message_in_snake_case(name, written):
    assert snake_case(name) == written

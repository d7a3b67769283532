import importlib

import pytest
from shop.v1.events_pb2 import OrderPlaced

from mesh.cli.proto import generate
from mesh.contract.pii import masked

PEOPLE = """
edition = "2023";
package people.v1;
import "mesh/v1/options.proto";

message Person {
  string name = 1 [(mesh.v1.pii) = true];
  string role = 2;
}

message Party {
  Person host = 1;
  repeated Person guests = 2;
  map<string, Person> seats = 3;
  map<string, string> colours = 4;
  map<string, string> phones = 5 [(mesh.v1.pii) = true];
  repeated string allergies = 6 [(mesh.v1.pii) = true];
  bytes photo = 7 [(mesh.v1.pii) = true];
  int32 budget = 8 [(mesh.v1.pii) = true];
  Person cook = 9 [(mesh.v1.pii) = true];
  Person band = 10 [features.message_encoding = DELIMITED];
  oneof contact {
    string email = 11 [(mesh.v1.pii) = true];
    string office = 12;
  }
}
"""


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    protos, out = tmp_path_factory.mktemp("protos"), tmp_path_factory.mktemp("out")
    (protos / "people/v1").mkdir(parents=True)
    (protos / "people/v1/people.proto").write_text(PEOPLE)
    generate(protos, out)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(out)
        yield importlib.import_module("people.v1.people_pb2")


def test_marked_text_is_masked_and_everything_else_is_kept():
    order = OrderPlaced(order_id="7", quantity=3, email="jane@example.org", attachment=b"\0")

    assert masked(order) == OrderPlaced(order_id="7", quantity=3, email="***", attachment=b"\0")
    assert order.email == "jane@example.org"


def test_text_that_is_not_there_is_not_masked():
    assert masked(OrderPlaced(order_id="7")) == OrderPlaced(order_id="7")


def test_personal_data_is_masked_at_any_depth(people):
    jane, masked_jane = people.Person(name="Jane", role="chair"), people.Person(name="***", role="chair")

    def party(guest):
        return people.Party(host=guest, guests=[guest] * 2, seats={"left": guest}, band=guest, colours={"a": "red"})

    assert masked(party(jane)) == party(masked_jane)


def test_personal_data_that_is_no_single_text_is_cleared(people):
    party = people.Party(
        phones={"home": "555"}, allergies=["nuts"], photo=b"\x89PNG", budget=7, cook=people.Person(role="chef")
    )

    assert masked(party) == people.Party()


def test_a_choice_keeps_telling_which_one_was_made(people):
    assert masked(people.Party(email="jane@example.org")) == people.Party(email="***")
    assert masked(people.Party(office="4.2")) == people.Party(office="4.2")

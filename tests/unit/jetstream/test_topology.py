from datetime import UTC, datetime, timedelta

import pytest
from billing.v1.events_pb2 import InvoiceRequested
from shop.v1.events_pb2 import OrderPlaced, OrderRefused, PackOrder

from mesh import Agent
from mesh.agent.deliver import Start
from mesh.contract.event_type import Domain
from mesh.contract.namespace import Namespace
from mesh.jetstream.topology import base_streams, consumer, domain_stream, durables, topology
from mesh.settings import StreamSettings

TEAM = Namespace("team-a")
SETTINGS = StreamSettings(replicas=3, duplicate_window=60, ack_wait=2.5, max_ack_pending=7)


def handle(event, ctx): ...


@pytest.fixture
def agent():
    return Agent("seller")


def test_handlers_of_a_domain_share_the_durable_of_their_agent(agent):
    agent.on(OrderPlaced)(handle)
    agent.on(PackOrder)(handle)

    [durable] = durables(TEAM, agent)

    assert (durable.stream, durable.name, durable.start) == ("TEAM_A_SHOP", "seller", Start("all"))
    assert {
        "team-a.shop.evt.order_placed.*",
        "team-a.shop.redo.seller.order_placed.*",
        "team-a.shop.cmd.pack_order.*",
        "team-a.shop.redo.seller.pack_order.*",
    } <= set(durable.filters)


def test_an_agent_has_a_durable_in_each_domain_it_reads(agent):
    agent.on(OrderPlaced)(handle)
    agent.on(InvoiceRequested)(handle)

    found = durables(TEAM, agent)

    assert {durable.name for durable in found} == {"seller"}
    assert [durable.stream for durable in found] == ["TEAM_A_SHOP", "TEAM_A_BILLING"]


def test_a_handler_with_a_start_of_its_own_or_isolated_has_its_own_durable(agent):
    agent.on(OrderPlaced, deliver="new")(handle)
    agent.on(PackOrder, isolated=True)(handle)
    agent.on(OrderRefused)(handle)

    found = {durable.name: durable.start.policy for durable in durables(TEAM, agent)}

    assert found == {"seller--order_placed": "new", "seller--pack_order": "all", "seller": "all"}


def test_a_consumer_never_gives_up_and_reads_sorted_filters(agent):
    agent.on(PackOrder)(handle)
    agent.on(OrderPlaced)(handle)
    [durable] = durables(TEAM, agent)

    config = consumer(durable, SETTINGS)

    assert (config["durable_name"], config["max_deliver"], config["ack_policy"]) == ("seller", -1, "explicit")
    assert (config["ack_wait"], config["max_ack_pending"]) == (2_500_000_000, 7)
    assert config["filter_subjects"] == sorted(durable.filters)
    assert config["deliver_policy"] == "all"
    assert "opt_start_time" not in config


def test_a_consumer_that_starts_in_the_past_says_when():
    agent = Agent("seller", deliver=datetime(2026, 11, 1, tzinfo=UTC))
    agent.on(OrderPlaced)(handle)
    [durable] = durables(TEAM, agent)

    config = consumer(durable, SETTINGS)

    assert (config["deliver_policy"], config["opt_start_time"]) == ("by_start_time", "2026-11-01T00:00:00Z")


def test_the_stream_of_a_domain_keeps_by_age_alone():
    config = domain_stream(TEAM, SETTINGS, Domain("web_shop", timedelta(days=2)))

    assert (config["name"], config["subjects"]) == ("TEAM_A_WEB_SHOP", ["team-a.web_shop.>"])
    assert (config["max_age"], config["duplicate_window"]) == (172_800_000_000_000, 60_000_000_000)
    assert (config["max_bytes"], config["max_msgs"], config["num_replicas"]) == (-1, -1, 3)
    assert "subject_delete_marker_ttl" not in config
    for feature in ("allow_atomic", "allow_msg_ttl", "allow_msg_schedules", "allow_direct", "allow_rollup_hdrs"):
        assert config[feature] is True


def test_the_duplicate_window_is_never_longer_than_events_are_kept():
    config = domain_stream(TEAM, SETTINGS, Domain("shop", timedelta(seconds=10)))

    assert config["duplicate_window"] == config["max_age"] == 10_000_000_000


def test_every_stream_allows_as_many_consumers_as_a_domain_may_need():
    streams = [*base_streams(TEAM, SETTINGS), domain_stream(TEAM, SETTINGS, Domain("shop"))]

    assert {config["max_consumers"] for config in streams} == {5000}
    assert len({config["name"] for config in streams}) == len(streams)


def test_a_topology_holds_the_domains_that_are_read_and_written(agent):
    agent.on(OrderPlaced, emits=[InvoiceRequested])(handle)

    found = topology(TEAM, SETTINGS, [agent])

    assert {"TEAM_A_SHOP", "TEAM_A_BILLING", "TEAM_A_JOURNAL", "KV_team-a-registry"} <= found.streams.keys()
    assert [durable.name for durable in found.durables] == ["seller"]


def test_replicas_of_one_agent_and_agents_of_one_domain_share_its_stream(agent):
    other = Agent("packer")
    agent.on(OrderPlaced)(handle)
    other.on(PackOrder)(handle)

    found = topology(TEAM, SETTINGS, iter([agent, other]))

    assert [(d.stream, d.name) for d in found.durables] == [("TEAM_A_SHOP", "seller"), ("TEAM_A_SHOP", "packer")]

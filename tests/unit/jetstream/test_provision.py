import pytest
from shop.v1.events_pb2 import OrderPlaced, PackOrder

from mesh import Agent
from mesh.contract.namespace import Namespace
from mesh.errors import Refused
from mesh.jetstream.provision import Provisioner, Verb
from mesh.jetstream.topology import topology
from mesh.settings import StreamSettings

SETTINGS = StreamSettings()


class MemoryServer:
    """Keeps the configurations of streams and consumers, as JetStream's API does."""

    def __init__(self):
        self.streams = {}
        self.consumers = {}

    async def find(self, subject):
        kind, _, name = subject.split(".", 2)
        if kind == "STREAM":
            return {"config": self.streams[name]} if name in self.streams else None
        return self.consumers.get(name)

    async def call(self, subject, body=None):
        kind, verb, name = subject.split(".", 2)
        if verb == "INFO":
            return await self.find(subject)
        if kind == "STREAM":
            if verb == "CREATE" and name in self.streams:
                raise Refused("stream name already in use")
            self.streams[name] = body | {"metadata": body.get("metadata", {}) | {"_nats.level": "3"}}
        elif "action" in body:
            if body["action"] == "create" and name in self.consumers:
                raise Refused("consumer already exists")
            self.consumers[name] = {"config": body["config"], "ack_floor": {"stream_seq": 4}}
        return {"num_pending": 9}

    @property
    def filters(self):
        return set(self.consumers["MESH_SHOP.seller"]["config"]["filter_subjects"])


@pytest.fixture
def server():
    return MemoryServer()


@pytest.fixture
def provisioner(server):
    return lambda **options: Provisioner(server, SETTINGS, **options)


def wanted(*messages, **settings):
    agent = Agent("seller")
    for message in messages:
        agent.on(message)(lambda event, ctx: None)
    return topology(Namespace("mesh"), SETTINGS.model_copy(update=settings), [agent])


async def changes(provisioner, topology):
    """The steps that change something, by object."""
    return {step.object: step for step in await provisioner.plan(topology) if step.verb is not Verb.KEEP}


async def test_on_an_empty_server_everything_is_created(provisioner, server):
    steps = await provisioner().plan(wanted(OrderPlaced))

    assert {step.verb for step in steps} == {Verb.CREATE}
    assert "stream MESH_SHOP" in {step.object for step in steps}
    assert "consumer MESH_SHOP/seller" in {step.object for step in steps}
    assert server.streams == {}


async def test_what_is_there_is_left_alone(provisioner):
    await provisioner().widen(wanted(OrderPlaced))

    assert {step.verb for step in await provisioner().plan(wanted(OrderPlaced))} == {Verb.KEEP}


async def test_a_new_handler_adds_its_filters(provisioner, server):
    await provisioner().widen(wanted(OrderPlaced))

    [step] = (await changes(provisioner(), wanted(OrderPlaced, PackOrder))).values()

    assert (step.verb, step.object, step.widens) == (Verb.UPDATE, "consumer MESH_SHOP/seller", True)
    assert step.changes == (
        "also reads mesh.shop.cmd.pack_order.*",
        "also reads mesh.shop.redo.seller.pack_order.*",
    )
    await step.run()
    assert "mesh.shop.cmd.pack_order.*" in server.filters


async def test_a_handler_that_is_gone_keeps_its_filters(provisioner, server):
    await provisioner().widen(wanted(OrderPlaced, PackOrder))
    before = server.filters
    await provisioner().widen(wanted(OrderPlaced))

    assert server.filters == before
    assert await changes(provisioner(), wanted(OrderPlaced)) == {}


async def test_pruning_says_what_is_pending_and_is_not_done_by_an_agent_at_its_start(provisioner, server):
    await provisioner().widen(wanted(OrderPlaced, PackOrder))

    [step] = (await changes(provisioner(prune=True), wanted(OrderPlaced))).values()

    assert step.changes[0] == "no longer reads mesh.shop.cmd.pack_order.* (9 pending)"
    assert not step.widens
    await step.run()
    assert server.filters == set(wanted(OrderPlaced).durables[0].filters)


async def test_filters_that_another_replica_added_meanwhile_are_kept(provisioner, server):
    await provisioner().widen(wanted(OrderPlaced))
    step = (await changes(provisioner(), wanted(OrderPlaced, PackOrder)))["consumer MESH_SHOP/seller"]
    server.consumers["MESH_SHOP.seller"]["config"]["filter_subjects"].append("mesh.shop.evt.added.*")

    await step.run()

    assert {"mesh.shop.evt.added.*", "mesh.shop.cmd.pack_order.*"} <= server.filters


async def test_what_two_processes_create_at_the_same_time_is_created_once(provisioner, server):
    one, other = [await provisioner().plan(wanted(OrderPlaced)) for _ in range(2)]

    for step in (*one, *other):
        await step.run()

    assert {step.verb for step in await provisioner().plan(wanted(OrderPlaced))} == {Verb.KEEP}


async def test_a_change_of_a_stream_is_shown_and_left_to_apply(provisioner, server):
    await provisioner().widen(wanted(OrderPlaced))
    more = wanted(OrderPlaced, duplicate_window=240)

    await provisioner().widen(more)
    assert server.streams["MESH_SHOP"]["duplicate_window"] == 120_000_000_000

    step = (await changes(provisioner(), more))["stream MESH_SHOP"]
    assert (step.verb, step.widens) == (Verb.UPDATE, False)
    assert step.changes == ("duplicate_window: 120000000000 -> 240000000000",)
    await step.run()
    assert server.streams["MESH_SHOP"]["duplicate_window"] == 240_000_000_000


@pytest.mark.parametrize(("option", "less"), [("max_age", 60_000_000_000), ("num_replicas", 1)])
async def test_what_would_lose_data_is_refused_unless_it_is_allowed(provisioner, server, option, less):
    await provisioner().widen(wanted(OrderPlaced, replicas=3))
    lossy = wanted(OrderPlaced, replicas=3)
    lossy.streams["MESH_SHOP"][option] = less

    [step] = (await changes(provisioner(), lossy)).values()
    assert (step.verb, step.object) == (Verb.REFUSE, "stream MESH_SHOP")
    assert option in step.changes[0]
    with pytest.raises(Refused, match="--allow-destructive"):
        await step.run()

    [step] = (await changes(provisioner(allow_destructive=True), lossy)).values()
    await step.run()
    assert server.streams["MESH_SHOP"][option] == less


async def test_keeping_events_longer_loses_nothing(provisioner):
    await provisioner().widen(wanted(OrderPlaced))
    longer = wanted(OrderPlaced)
    longer.streams["MESH_SHOP"]["max_age"] = 0

    [step] = (await changes(provisioner(), longer)).values()

    assert step.verb is Verb.UPDATE


async def test_a_stream_that_belongs_to_somebody_else_is_not_touched(provisioner, server):
    server.streams["MESH_SHOP"] = {"name": "MESH_SHOP", "subjects": ["warehouse.>"]}

    step = (await changes(provisioner(), wanted(OrderPlaced)))["stream MESH_SHOP"]

    assert step.verb is Verb.REFUSE
    with pytest.raises(Refused, match=r"it holds warehouse\.>; choose another namespace") as refused:
        await step.run()
    assert refused.value.code == "not_provisioned"

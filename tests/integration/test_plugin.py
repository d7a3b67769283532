from shop.v1.events_pb2 import OrderPlaced


async def test_the_mesh_fixture_is_connected_to_a_namespace_of_the_test(mesh, mesh_namespace):
    emitted = await mesh.emit(OrderPlaced(order_id="7"))

    assert emitted.seq == 1
    assert mesh.namespace.name == mesh_namespace

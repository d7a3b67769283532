from pydantic import SecretStr

from mesh.cli.checks import in_force
from mesh.settings import NatsSettings, Settings


def test_settings_are_shown_by_the_name_of_their_variable_and_without_secrets():
    nats = NatsSettings(url="nats://ann:s3cret@a:4222,nats://t0ken@b:4222,c:4222", password=SecretStr("s3cret"))

    shown = in_force(Settings(namespace="team", nats=nats))

    assert shown["MESH_NAMESPACE"] == "team"
    assert shown["MESH_NATS__URL"] == "nats://***@a:4222,nats://***@b:4222,c:4222"
    assert shown["MESH_STREAM__REPLICAS"] == 1
    assert "s3cret" not in str(shown)

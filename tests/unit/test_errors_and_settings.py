import os
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import ValidationError

from mesh import Conflict, ContractError, MeshError, NotFound, Refused, Reject, Retry, Settings, Unreachable, UsageError


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """No setting of the machine counts; `environment` sets one."""
    for name in [name for name in os.environ if name.startswith("MESH_")]:
        monkeypatch.delenv(name)
    return monkeypatch.setenv


def test_an_error_reads_as_a_sentence_with_its_cure():
    error = MeshError("the door is shut", code="shut", object="door", cure="knock")

    assert str(error) == "the door is shut: knock"
    assert (error.code, error.object, error.cure) == ("shut", "door", "knock")


def test_an_error_without_a_cure_is_its_sentence():
    assert str(ContractError("the door is shut", code="shut")) == "the door is shut"


@pytest.mark.parametrize(
    ("kind", "code"),
    [(UsageError, "usage"), (Unreachable, "unreachable"), (NotFound, "not_found"), (Refused, "refused")],
)
def test_a_kind_of_error_has_a_code_of_its_own(kind, code):
    error = kind("no")

    assert isinstance(error, MeshError)
    assert error.code == code
    assert kind("no", code="special", object="it", cure="yes").code == "special"


def test_a_conflict_is_a_refusal_with_the_code_of_the_server():
    error = Conflict("changed", server_code=10071)

    assert isinstance(error, Refused)
    assert error.server_code == 10071


def test_what_a_handler_raises_carries_its_reason():
    assert (str(Reject("too old")), Reject("too old").code) == ("too old", "rejected")
    assert (str(Retry("not yet", after=5)), Retry(after=5).code) == ("not yet", "retry")


@pytest.mark.parametrize("after", [90, 90.0, timedelta(seconds=90)], ids=["int", "float", "timedelta"])
def test_retry_takes_seconds_or_a_timedelta(after):
    assert Retry(after=after).after == 90.0


def test_everything_has_a_default():
    settings = Settings.load()

    assert (settings.namespace, settings.health_port, settings.shutdown_grace) == ("mesh", 8080, 30.0)
    assert (settings.nats.url, settings.nats.password) == ("nats://127.0.0.1:4222", None)
    assert (settings.stream.replicas, settings.retry.base, settings.auto_provision) == (1, 1.0, True)


VARIABLES = {
    "MESH_NAMESPACE": ("team-a", "namespace", "team-a"),
    "MESH_AUTO_PROVISION": ("false", "auto_provision", False),
    "MESH_HEALTH_PORT": ("0", "health_port", 0),
    "MESH_SHUTDOWN_GRACE": ("2.5", "shutdown_grace", 2.5),
    "MESH_LOG_LEVEL": ("debug", "log_level", "DEBUG"),
    "MESH_MAX_INFLIGHT_BYTES": ("2000000", "max_inflight_bytes", 2_000_000),
    "MESH_NATS__URL": ("nats://a:1,nats://b:2", "nats.url", "nats://a:1,nats://b:2"),
    "MESH_NATS__CREDENTIALS": ("/run/creds", "nats.credentials", Path("/run/creds")),
    "MESH_NATS__NKEY_SEED": ("/run/seed", "nats.nkey_seed", Path("/run/seed")),
    "MESH_NATS__USER": ("jane", "nats.user", "jane"),
    "MESH_NATS__PASSWORD": ("1234", "nats.password.get_secret_value", "1234"),
    "MESH_NATS__TOKEN": ("abcd", "nats.token.get_secret_value", "abcd"),
    "MESH_NATS__TLS_CA": ("/run/ca", "nats.tls_ca", Path("/run/ca")),
    "MESH_NATS__TLS_CERT": ("/run/cert", "nats.tls_cert", Path("/run/cert")),
    "MESH_NATS__TLS_KEY": ("/run/key", "nats.tls_key", Path("/run/key")),
    "MESH_NATS__CONNECT_TIMEOUT": ("9", "nats.connect_timeout", 9.0),
    "MESH_NATS__REQUEST_TIMEOUT": ("8", "nats.request_timeout", 8.0),
    "MESH_NATS__SERVER_BIN": ("/bin/nats-server", "nats.server_bin", Path("/bin/nats-server")),
    "MESH_STREAM__REPLICAS": ("3", "stream.replicas", 3),
    "MESH_STREAM__DUPLICATE_WINDOW": ("60", "stream.duplicate_window", 60.0),
    "MESH_STREAM__ACK_WAIT": ("0.5", "stream.ack_wait", 0.5),
    "MESH_STREAM__MAX_ACK_PENDING": ("10", "stream.max_ack_pending", 10),
    "MESH_RETRY__BASE": ("0.1", "retry.base", 0.1),
    "MESH_RETRY__MAXIMUM": ("7", "retry.maximum", 7.0),
}


def read(settings, path):
    value = settings
    for name in path.split("."):
        value = getattr(value, name)
    return value() if callable(value) else value


@pytest.mark.parametrize(("variable", "text", "path", "value"), [(name, *rest) for name, rest in VARIABLES.items()])
def test_a_variable_sets_its_setting(environment, variable, text, path, value):
    environment(variable, text)

    assert read(Settings.load(), path) == value


def test_every_setting_has_a_variable_and_a_description():
    def paths(model, prefix=""):
        for name, field in model.model_fields.items():
            if hasattr(field.annotation, "model_fields"):
                yield from paths(field.annotation, f"{prefix}{name}__")
            else:
                assert field.description, name
                yield f"{prefix}{name}"

    assert {f"MESH_{path.upper()}" for path in paths(Settings)} == VARIABLES.keys()


def test_an_empty_variable_is_none(environment):
    for variable in VARIABLES:
        environment(variable, "")

    assert Settings.load() == Settings()


def test_variables_of_others_do_not_count(environment):
    environment("MESH_UNKNOWN", "1")
    environment("NATS__URL", "nats://elsewhere:1")

    assert Settings.load().nats.url == "nats://127.0.0.1:4222"


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("MESH_NAMESPACE", "Team A"),
        ("MESH_NAMESPACE", "a.b"),
        ("MESH_AUTO_PROVISION", "perhaps"),
        ("MESH_HEALTH_PORT", "65536"),
        ("MESH_HEALTH_PORT", "http"),
        ("MESH_SHUTDOWN_GRACE", "-1"),
        ("MESH_SHUTDOWN_GRACE", "inf"),
        ("MESH_SHUTDOWN_GRACE", "nan"),
        ("MESH_LOG_LEVEL", "LOUD"),
        ("MESH_MAX_INFLIGHT_BYTES", "1"),
        ("MESH_NATS", "nats://127.0.0.1:4222"),
        ("MESH_NATS__CONNECT_TIMEOUT", "soon"),
        ("MESH_STREAM__REPLICAS", "0"),
        ("MESH_STREAM__ACK_WAIT", "0.1"),
        ("MESH_STREAM__MAX_ACK_PENDING", "0"),
        ("MESH_RETRY__BASE", "0"),
        ("MESH_RETRY__MAXIMUM", "inf"),
    ],
)
def test_a_value_that_is_not_allowed_is_refused_with_the_name_of_its_variable(environment, variable, text):
    environment(variable, text)

    with pytest.raises(UsageError) as refused:
        Settings.load()

    assert (refused.value.code, refused.value.object) == ("bad_setting", variable)
    assert str(refused.value).startswith(f"{variable}={text!r} is not allowed: ")
    assert refused.value.cure == "mend or unset the environment variable"


def test_secrets_do_not_show(environment):
    environment("MESH_NATS__PASSWORD", "hunter2")

    assert "hunter2" not in repr(Settings.load())


@pytest.mark.parametrize("path", ["namespace", "nats.url", "stream.replicas", "retry.base"])
def test_settings_do_not_change(path):
    settings = Settings()
    owner, _, name = path.rpartition(".")

    with pytest.raises(ValidationError, match="frozen"):
        setattr(read(settings, owner) if owner else settings, name, read(settings, path))

"""Settings: one root, read from the environment with the prefix `MESH_` and `__` between levels."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from mesh.errors import UsageError

type Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


def _odd(replicas: int) -> int:
    if replicas % 2 == 0:
        raise ValueError("an even number survives no more failures than the odd one below it")
    return replicas


class NatsSettings(BaseModel, frozen=True):
    """How NATS is reached: `MESH_NATS__…`."""

    url: str = Field("nats://127.0.0.1:4222", description="Server, or several with commas between.")
    credentials: Path | None = Field(None, description="Credentials file (JWT and seed).")
    nkey_seed: Path | None = Field(None, description="File with an nkey seed.")
    user: str | None = Field(None, description="User name.")
    password: SecretStr | None = Field(None, description="Password of the user.")
    token: SecretStr | None = Field(None, description="Authentication token.")
    tls_ca: Path | None = Field(None, description="Certificate authority of the servers; turns TLS on.")
    tls_cert: Path | None = Field(None, description="Client certificate.")
    tls_key: Path | None = Field(None, description="Key of the client certificate.")
    connect_timeout: Seconds = Field(5.0, description="Seconds to wait for the first connection.")
    request_timeout: Seconds = Field(
        5.0, description="Seconds to wait for one answer of JetStream before trying again."
    )
    server_bin: Path | None = Field(None, description="nats-server binary for `mesh server`, `mesh dev` and tests.")


class StreamSettings(BaseModel, frozen=True):
    """How streams and consumers are provisioned: `MESH_STREAM__…`."""

    replicas: Annotated[int, Field(ge=1, le=5), AfterValidator(_odd)] = Field(
        1, description="Replicas of every stream: 1, 3 or 5."
    )
    duplicate_window: Seconds = Field(
        120.0, description="Seconds in which the server recognises a repeated message id."
    )
    ack_wait: Annotated[float, Field(ge=0.5)] = Field(
        10.0, description="Seconds without a sign of life after which an event is delivered again."
    )
    max_ack_pending: Annotated[int, Field(ge=1)] = Field(
        20_000, description="Events of one durable that may be delivered and unsettled at the same time."
    )


class RetrySettings(BaseModel, frozen=True):
    """How long failed events wait: `MESH_RETRY__…`."""

    base: Seconds = Field(1.0, description="Seconds before the second attempt; doubles with each attempt.")
    maximum: Seconds = Field(300.0, description="Longest wait in seconds.")


class Settings(BaseSettings):
    """All settings. Instances are immutable; there is no global one.

    Raises:
        pydantic.ValidationError: A variable has an illegal value; `load` turns it into a `UsageError`.
    """

    model_config = SettingsConfigDict(
        env_prefix="MESH_",
        env_nested_delimiter="__",
        env_ignore_empty=True,
        enable_decoding=False,
        frozen=True,
        extra="ignore",
    )

    namespace: str = Field("mesh", pattern=r"^[a-z][a-z0-9-]*$", description="First token of all subjects.")
    auto_provision: bool = Field(default=True, description="Create and widen streams and consumers at start.")
    health_port: Annotated[int, Field(ge=0, le=65535)] = Field(
        8080, description="Port of the health endpoints; 0: none."
    )
    shutdown_grace: Seconds = Field(30.0, description="Seconds that running handlers get to finish on SIGTERM.")
    log_level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], BeforeValidator(str.upper)] = Field(
        "INFO", description="Least severe messages that are logged."
    )
    max_inflight_bytes: Annotated[int, Field(ge=1 << 20)] = Field(
        64 << 20, description="Bytes of undelivered payload that one consumer holds at most."
    )
    nats: NatsSettings = NatsSettings()
    stream: StreamSettings = StreamSettings()
    retry: RetrySettings = RetrySettings()

    @classmethod
    def load(cls) -> "Settings":
        """Reads the environment.

        Raises:
            UsageError: A variable has an illegal value. The error names the variable.
        """
        try:
            return cls()
        except ValidationError as error:
            first = error.errors()[0]
            variable = "MESH_" + "__".join(str(part) for part in first["loc"]).upper()
            raise UsageError(
                f"{variable}={first['input']!r} is not allowed: {first['msg']}",
                code="bad_setting",
                object=variable,
                cure="mend or unset the environment variable",
            ) from None

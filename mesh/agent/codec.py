"""Arguments and results of steps as bytes: Protobuf messages as such, all else as JSON by pydantic."""

import hashlib
from collections.abc import Callable
from functools import lru_cache
from typing import Any, get_type_hints

from google.protobuf.descriptor_pool import Default
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from pydantic import PydanticSchemaGenerationError, PydanticUserError, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError, from_json, to_json

from mesh.errors import UsageError

_ANYTHING: TypeAdapter[Any] = TypeAdapter(Any)


def digest(step: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
    """Hash of the arguments of a call: equal for equal arguments, in every process.

    Raises:
        UsageError: An argument can be serialized neither as Protobuf nor as JSON.
    """
    state = hashlib.blake2b(digest_size=16)
    for name, value in [*enumerate(args), *sorted(kwargs.items())]:
        try:
            data = _argument(value)
        except (PydanticSerializationError, ValueError) as error:
            raise UsageError(
                f"argument {name} of step {step!r} cannot be serialized: {error}",
                code="step_argument",
                object=step,
                cure="pass plain values, pydantic models or Protobuf messages; bind the rest in a function",
            ) from error
        state.update(b"%s\0%d\0" % (str(name).encode(), len(data)))
        state.update(data)
    return state.digest()


def encode(step: str, function: Callable[..., Any], value: Any) -> tuple[str, bytes]:
    """A result as bytes, with its full Protobuf name; the name is empty for JSON.

    Raises:
        UsageError: It can be serialized neither as Protobuf nor as JSON.
    """
    if isinstance(value, Message):
        return value.DESCRIPTOR.full_name, value.SerializeToString(deterministic=True)
    try:
        adapter = _adapter(function)
        data = adapter.dump_json(value) if adapter else to_json(value, inf_nan_mode="constants")
        decode(function, "", data)
    except (PydanticSerializationError, ValidationError, ValueError) as error:
        raise UsageError(
            f"the result of step {step!r} cannot be stored: {error}",
            code="step_result",
            object=step,
            cure="return plain values, a pydantic model or a Protobuf message, and annotate the function's result",
        ) from error
    return "", data


def decode(function: Callable[..., Any], type_name: str, data: bytes) -> Any:
    """A result from its bytes, as the return annotation of the function says."""
    if type_name:
        return GetMessageClass(Default().FindMessageTypeByName(type_name)).FromString(data)
    adapter = _adapter(function)
    return adapter.validate_json(data) if adapter else from_json(data)


def _argument(value: Any) -> bytes:
    if isinstance(value, Message):
        return value.DESCRIPTOR.full_name.encode() + b"\0" + value.SerializeToString(deterministic=True)
    return _json(_ordered(_ANYTHING.dump_python(value)))


def _ordered(value: Any) -> Any:
    """The value without the order of its sets and mappings, which differs between processes."""
    if isinstance(value, dict):
        return {key: _ordered(value[key]) for key in sorted(value, key=str)}
    if isinstance(value, set | frozenset):
        return sorted(map(_ordered, value), key=_json)
    if isinstance(value, list | tuple):
        return [_ordered(member) for member in value]
    return value


def _json(value: Any) -> bytes:
    return to_json(value, inf_nan_mode="constants", bytes_mode="base64", fallback=_message)


def _message(value: Any) -> Any:
    """Messages inside of lists and models; everything else that pydantic does not know is refused."""
    if isinstance(value, Message):
        return [value.DESCRIPTOR.full_name, value.SerializeToString(deterministic=True).hex()]
    raise ValueError(f"{type(value).__name__} is neither JSON, a pydantic model nor a Protobuf message")


def _adapter(function: Callable[..., Any]) -> TypeAdapter[Any] | None:
    """Reads and writes what the function says it returns; None when it does not say."""
    try:
        returned = get_type_hints(function).get("return", Any)
    except (NameError, TypeError):
        return None
    return None if returned is Any else _adapter_of(returned)


@lru_cache(maxsize=1024)
def _adapter_of(returned: Any) -> TypeAdapter[Any] | None:
    try:
        return TypeAdapter(returned, config={"ser_json_inf_nan": "constants"})
    except PydanticSchemaGenerationError:
        return None
    except PydanticUserError:  # models and dataclasses bring a configuration of their own
        return TypeAdapter(returned)

"""Constraints of the contract (`buf.validate`), checked where a message enters and where it leaves."""

from google.protobuf.message import Message
from protovalidate import CompilationError, EvaluationError, Validator

from mesh.errors import ContractError

_validator = Validator()


def validate(message: Message) -> None:
    """Checks a message against the constraints in its `.proto`.

    Raises:
        ContractError: A field violates its constraint. The error names the fields and the rules, never the values.
    """
    name = message.DESCRIPTOR.full_name
    try:
        violations = _validator.collect_violations(message)
    except (CompilationError, EvaluationError) as error:
        raise ContractError(
            f"the constraints of {name} cannot be checked: {error}",
            code="bad_constraint",
            object=name,
            cure=f"mend them in {message.DESCRIPTOR.file.name}",
        ) from error
    if violations:
        parts = [f"{_path(v.proto.field)} {v.proto.message or v.proto.rule_id}" for v in violations]
        raise ContractError(f"{name} is invalid: {', '.join(parts)}", code="invalid", object=name)


def _path(field: object) -> str:
    elements = getattr(field, "elements", None) or ()
    return ".".join(element.field_name for element in elements) or "the message"

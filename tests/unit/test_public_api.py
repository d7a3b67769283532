import inspect

import pytest

import mesh

PUBLIC = [
    "Agent",
    "AlreadyClaimed",
    "ClaimOrderError",
    "Conflict",
    "Context",
    "ContractError",
    "Emitted",
    "Mesh",
    "MeshError",
    "NotFound",
    "Record",
    "Refused",
    "Reject",
    "Retry",
    "Settings",
    "Unreachable",
    "UsageError",
]


def test_the_public_names_are_these_and_no_others():
    """A change here is a change for everybody who uses mesh: write it into the changelog."""
    assert mesh.__all__ == PUBLIC
    assert dir(mesh) == PUBLIC


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_loads_and_is_documented(name):
    public = getattr(mesh, name)

    assert public.__name__ == name
    assert inspect.getdoc(public)


@pytest.mark.parametrize("name", PUBLIC)
def test_everything_a_public_class_offers_is_documented(name):
    offered = {member: value for member, value in vars(getattr(mesh, name)).items() if not member.startswith("_")}
    functions = {
        member: value
        for member, value in offered.items()
        if isinstance(value, property | classmethod | staticmethod) or inspect.isfunction(value)
    }

    assert [member for member, value in functions.items() if not inspect.getdoc(value)] == []


@pytest.mark.parametrize("name", ["Missing", "agents", "import_module", "_Agent"])
def test_an_unknown_name_is_missing_like_anywhere_else(name):
    with pytest.raises(AttributeError, match=f"module 'mesh' has no attribute '{name}'"):
        getattr(mesh, name)

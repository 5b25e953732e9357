"""Fields of providers' answers, whatever kind of object they are."""

from __future__ import annotations

from typing import Any

import pytest

from tracekeeper.conventions.told import get

pydantic = pytest.importorskip("pydantic")


class Chunk(pydantic.BaseModel):  # type: ignore[misc, name-defined]
    model_config = pydantic.ConfigDict(extra="allow")
    id: str = "chunk-1"

    @property
    def shown(self) -> str:
        return f"shown {self.id}"


class Older(pydantic.BaseModel):  # type: ignore[misc, name-defined]
    id: str = "chunk-1"


def test_fields_extras_and_properties_of_a_model_are_found_and_others_are_not() -> None:
    for number in ("one", "two"):  # the second time from what is known of the class
        chunk = Chunk(id=number, usage={"tokens": 3})
        assert [get(chunk, name) for name in ("id", "usage", "shown", "missing")] == [
            number,
            {"tokens": 3},
            f"shown {number}",
            None,
        ]
    assert get(Older(), "shown", "nothing") == "nothing", "a name that another class has"
    assert get(Chunk(), "usage", "nothing") == "nothing", "an extra that another object had"


@pytest.mark.parametrize("value", [{"id": "x"}, type("Plain", (), {"id": "x"})()], ids=["mapping", "object"])
def test_mappings_and_plain_objects_are_read_alike(value: Any) -> None:
    assert (get(value, "id"), get(value, "missing", "nothing")) == ("x", "nothing")

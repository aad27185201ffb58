"""The generated parts of the docs match the code."""

from __future__ import annotations

import typing
from pathlib import Path

import pytest
from pydantic import BaseModel

from tests.support.drawn import PICTURES, ROOT, generated_pages, regenerate
from tests.support.pages import specs
from tests.support.pages.commands import command_pages, commands
from xds_server.cli import main
from xds_server.rollout import Phase
from xds_server.spec import DeploymentStrategy, Endpoint, ModelRoute, scalars

PAGES = generated_pages()


@pytest.mark.parametrize("page", PAGES)
def test_generated_parts_are_up_to_date(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    assert regenerate(text) == text, "run `make golden`"


@pytest.mark.parametrize("picture", PICTURES)
def test_generated_pictures_are_up_to_date(picture: str) -> None:
    assert (ROOT / picture).read_text(encoding="utf-8") == PICTURES[picture](), "run `make golden`"


def test_the_references_are_generated() -> None:
    assert {"docs/reference/spec.md", "docs/reference/cli.md", "docs/reference/problems.md"} <= set(PAGES)
    assert "docs/rollout.md" in PAGES


def test_every_phase_is_in_the_picture() -> None:
    (picture,) = (draw() for name, draw in PICTURES.items() if "states" in name)
    assert all(f">{phase.value}<" in picture for phase in Phase)


def parts(annotation: object) -> set[type[BaseModel]]:
    found: set[type[BaseModel]] = set()
    for inner in typing.get_args(annotation):
        found |= parts(inner)
    # In YAML, host and port of an endpoint are one text.
    if isinstance(annotation, type) and issubclass(annotation, BaseModel) and annotation is not Endpoint:
        found.add(annotation)
        for field in annotation.model_fields.values():
            found |= parts(field.annotation)
    return found


EVERY = sorted(parts(ModelRoute) | parts(DeploymentStrategy), key=lambda part: part.__qualname__)


@pytest.mark.parametrize("part", EVERY, ids=lambda part: part.__name__)
def test_every_field_has_a_description(part: type[BaseModel]) -> None:
    descriptions = specs.descriptions(part)
    assert set(part.model_fields) <= set(descriptions)
    assert all(one.endswith(".") and len(one) > 8 for one in descriptions.values()), descriptions


def test_every_type_of_value_has_a_kind() -> None:
    values = {
        name for name in scalars.__all__ if typing.get_origin(getattr(scalars, name)) is typing.Annotated
    }
    assert set(specs.KIND_OF) == values | {"Limit"}


def test_the_field_tables_contain_limits_and_defaults() -> None:
    page = specs.field_tables()
    assert "| `threshold` | [comparison](#kinds-of-values) |" in page
    assert "| `serve` | [name](#kinds-of-values) or [mapping](#spectargetingrulesserve) | required |" in page
    assert "| `retries` | [whole number](#kinds-of-values), from 0 to 5 | `1` |" in page
    assert "| `maxRequestSize` | [size](#kinds-of-values), from 1KiB to 64MiB | `32MiB` |" in page
    headings = [line for line in page.splitlines() if line.startswith("#")]
    assert len(set(headings)) == len(headings)
    assert "| `spec` | [mapping](#deploymentstrategyspec) | required |" in page


def test_every_command_is_in_the_reference() -> None:
    page = command_pages("shiftplane", main)
    named = [" ".join(names) for names, _ in commands("shiftplane", main)]
    assert len(named) > 20
    assert all(f"# {name}\n" in page for name in named)


def test_no_page_names_this_machine() -> None:
    for page in PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        assert str(Path.home()) + "/" not in text
        assert str(ROOT) not in text

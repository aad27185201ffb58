"""Generated parts of the docs are up to date."""

from __future__ import annotations

import typing
from pathlib import Path

import pytest
from pydantic import BaseModel

from tests.support.drawn import PICTURES, ROOT, drawn_pages, redrawn
from tests.support.pages import specs
from tests.support.pages.commands import command_pages, verbs
from xds_server.cli import main
from xds_server.rollout import Phase
from xds_server.spec import DeploymentStrategy, Endpoint, ModelRoute, scalars

PAGES = drawn_pages()


@pytest.mark.parametrize("page", PAGES)
def test_parts_from_the_code_are_as_it_has_them(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    assert redrawn(text) == text, "run make golden"


@pytest.mark.parametrize("picture", PICTURES)
def test_pictures_are_as_the_code_draws_them(picture: str) -> None:
    assert (ROOT / picture).read_text(encoding="utf-8") == PICTURES[picture](), "run make golden"


def test_the_references_are_drawn() -> None:
    assert {"docs/reference/spec.md", "docs/reference/cli.md", "docs/reference/problems.md"} <= set(PAGES)
    assert "docs/rollout.md" in PAGES


def test_every_phase_is_in_the_picture() -> None:
    (picture,) = (draw() for name, draw in PICTURES.items() if "states" in name)
    assert all(f">{phase.value}<" in picture for phase in Phase)


def parts(annotation: object) -> set[type[BaseModel]]:
    found: set[type[BaseModel]] = set()
    for inner in typing.get_args(annotation):
        found |= parts(inner)
    # Host and port of an endpoint are one string in YAML.
    if isinstance(annotation, type) and issubclass(annotation, BaseModel) and annotation is not Endpoint:
        found.add(annotation)
        for field in annotation.model_fields.values():
            found |= parts(field.annotation)
    return found


EVERY = sorted(parts(ModelRoute) | parts(DeploymentStrategy), key=lambda part: part.__qualname__)


@pytest.mark.parametrize("part", EVERY, ids=lambda part: part.__name__)
def test_every_field_has_its_sentence(part: type[BaseModel]) -> None:
    sentences = specs.sentences(part)
    assert set(part.model_fields) <= set(sentences)
    assert all(one.endswith(".") and len(one) > len("As said.") for one in sentences.values()), sentences


def test_every_kind_of_value_has_a_name() -> None:
    values = {
        name for name in scalars.__all__ if typing.get_origin(getattr(scalars, name)) is typing.Annotated
    }
    assert set(specs.KIND_OF) == values | {"Limit"}


def test_a_limit_that_changes_changes_the_page() -> None:
    page = specs.field_tables()
    assert "| `threshold` | [comparison](#kinds-of-values) |" in page
    assert "| `serve` | [name](#kinds-of-values) or [mapping](#spectargetingrulesserve) | needed |" in page
    assert "| `retries` | [whole number](#kinds-of-values), from 0 to 5 | `1` |" in page
    assert "| `maxRequestSize` | [size](#kinds-of-values), 1KiB to 64MiB | `32MiB` |" in page


def test_every_verb_is_in_the_reference() -> None:
    page = command_pages("shiftplane", main)
    named = [" ".join(words) for words, _ in verbs("shiftplane", main)]
    assert len(named) > 20
    assert all(f"# {name}\n" in page for name in named)


def test_no_page_names_this_machine() -> None:
    for page in PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        assert str(Path.home()) + "/" not in text
        assert str(ROOT) not in text

"""Fields of JSON objects, with a readable message for each that is missing or invalid (pure)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["read_field"]

T = TypeVar("T")


def read_field(document: Any, name: str, read: Callable[[Any], T]) -> T:
    """Return the field `name` of a JSON object, converted by `read`.

    Raises:
        ValueError: The document is no JSON object, or the field is missing or invalid.
    """
    if not isinstance(document, Mapping):
        raise ValueError(f"expected a JSON object, found {_shown(document)}")  # noqa: TRY004 - the data is invalid, not the call
    if name not in document:
        raise ValueError(f'field "{name}" is missing')
    try:
        return read(document[name])
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(f'field "{name}" has the invalid value {_shown(document[name])}') from error


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."

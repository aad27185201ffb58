"""The API of a request, by its path."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror_collector.exchange.api import Api, api_of


@pytest.mark.parametrize(
    ("path", "api"),
    [
        ("/v1/chat/completions", Api.CHAT),
        ("/v1/chat/completions/", Api.CHAT),
        ("//v1//chat/completions?stream=true", Api.CHAT),
        ("/openai/deployments/embeddings/chat/completions?api-version=2024-10-21", Api.CHAT),
        ("/models/llama/v1/chat/completions", Api.CHAT),
        ("/v1/completions", Api.COMPLETIONS),
        ("/v1/responses", Api.RESPONSES),
        ("/v1/messages", Api.MESSAGES),
        ("/anthropic/v1/messages?beta=true", Api.MESSAGES),
        ("/v1/messages/count_tokens", Api.OTHER),
        ("/v1/threads/thread_1/messages", Api.OTHER),
        ("/v1/embeddings", Api.EMBEDDINGS),
        ("/openai/deployments/x/embeddings", Api.EMBEDDINGS),
        ("/rerank", Api.RERANK),
        ("/v2/rerank", Api.RERANK),
        ("/v1/score", Api.SCORE),
        ("/score", Api.SCORE),
        ("/v1/audio/transcriptions", Api.TRANSCRIPTION),
        ("/v1/audio/translations", Api.TRANSCRIPTION),
        ("/v1/audio/speech", Api.SPEECH),
        ("/v1/images/edits", Api.IMAGES),
        ("/v1/moderations", Api.MODERATIONS),
        ("/v1/models", Api.MODELS),
        ("/v1/models/org/name", Api.MODELS),
        ("/v1/models/name:predict", Api.OTHER),
        ("/speech", Api.OTHER),
        ("/health", Api.OTHER),
        ("/v1/chat/completions_old", Api.OTHER),
        ("/?/v1/chat/completions", Api.OTHER),
        ("/", Api.OTHER),
        ("", Api.OTHER),
    ],
)
def test_the_path_decides(path: str, api: Api) -> None:
    assert api_of(path) is api


@given(st.text(max_size=80))
def test_a_prefix_changes_nothing(prefix: str) -> None:
    if "?" not in prefix and "threads" not in prefix.lower():
        assert api_of(f"{prefix}/v1/chat/completions") is Api.CHAT


@given(st.text(max_size=200))
def test_any_path_has_an_api(path: str) -> None:
    assert isinstance(api_of(path), Api)

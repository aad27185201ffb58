"""Users who send requests through a proxy, one after the other."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

__all__ = ["Answer", "Users"]


@dataclass(frozen=True, slots=True)
class Answer:
    """The response to a user's request."""

    status: int
    variant: str
    body: dict[str, Any]


@dataclass(slots=True)
class Users:
    """Users of a proxy, identified by the header `x-user-id`; they share one connection."""

    entry: str
    failed: list[tuple[str, int]] = field(default_factory=list)
    asked: int = 0
    _connection: http.client.HTTPConnection | None = None

    def ask(self, user: str, **headers: str) -> Answer:
        """Send one chat request; header names are written with underscores."""
        url = urlsplit(self.entry)
        if self._connection is None:
            self._connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=10)
        all_headers = {"content-type": "application/json", "x-user-id": user}
        all_headers |= {name.replace("_", "-"): value for name, value in headers.items()}
        message = {"role": "user", "content": f"hello, I am {user}"}
        body = {"model": "chat-large", "messages": [message], "max_tokens": 1}
        self._connection.request("POST", "/v1/chat/completions", json.dumps(body), all_headers)
        response = self._connection.getresponse()
        raw = response.read()
        self.asked += 1
        if response.status != 200:
            self.failed.append((user, response.status))
        decoded = json.loads(raw) if response.status == 200 else {}
        return Answer(response.status, response.headers.get("x-shiftplane-variant", ""), decoded)

    def variants(self, count: int, **headers: str) -> dict[str, str]:
        """Send one request for each of `count` users; return the variant that served each."""
        return {f"user-{n}": self.ask(f"user-{n}", **headers).variant for n in range(count)}

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()

"""Every sample spec from its first step to its last with a real Envoy; the test advances the clock.

Each step is checked by the responses that users receive, not by what the control plane reports.
"""

from __future__ import annotations

import json
import urllib.request
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import xxhash
import yaml

from tests.support.plane import Plane, eventually
from tests.support.timed import TimedPlane
from tests.support.users import Users
from xds_server.engine import Action

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.envoy import Envoy

pytestmark = pytest.mark.e2e

SAMPLES = Path(__file__).resolve().parents[2] / "envoy" / "examples"
MANY = 200
HOUR = 3_600.0


@dataclass(slots=True)
class Stage:
    """A running sample: its control plane, proxy and users."""

    plane: Plane
    control: TimedPlane
    envoy: Envoy
    users: Users
    text: str
    addresses: dict[str, str]

    def split(self, count: int = MANY, **headers: str) -> dict[str, int]:
        """Send a request for each of `count` users; return the number of users per variant."""
        return dict(Counter(self.users.variants(count, **headers).values()))

    def requests(self, backend: str) -> int:
        """Return the number of requests that a backend received."""
        name = backend if backend.startswith("chat/") else f"chat/{backend}"
        return self.envoy.stats(f"^cluster.{name}.upstream_rq_total$").get(
            f"cluster.{name}.upstream_rq_total", 0
        )

    def received(self, backend: str, limit: int, *headers: str) -> list[dict[str, str]]:
        """Return these headers of the last chat requests that a backend received."""
        wanted = "&".join(f"header={name}" for name in headers)
        url = f"http://{self.addresses[backend]}/_sim/requests?limit={2 * limit}&{wanted}"
        with urllib.request.urlopen(url, timeout=5) as answer:
            found = json.loads(answer.read())["last"]
        return [one["headers"] for one in found if one["path"] == "/v1/chat/completions"][-limit:]


def local(sample: str, addresses: dict[str, str]) -> str:
    """Return a sample with the backends of the test."""
    documents = list(yaml.safe_load_all((SAMPLES / sample).read_text(encoding="utf-8")))
    for document in documents:
        for backend in document["spec"].get("backends", ()):
            backend.pop("dns", None)
            backend["endpoints"] = [addresses[backend["name"]]]
    return yaml.safe_dump_all(documents, sort_keys=False)


def names(sample: str) -> dict[str, str]:
    """Return the model name of each backend of a sample."""
    found: dict[str, str] = {}
    for document in yaml.safe_load_all((SAMPLES / sample).read_text(encoding="utf-8")):
        for backend in document["spec"].get("backends", ()):
            found[backend["name"]] = backend.get("modelNameOverride", "chat-large")
    return found


@contextmanager
def staged(plane: Plane, sample: str, *, collector: bool = False) -> Iterator[Stage]:
    """Run a sample with real backends, a real Envoy, and a control plane whose clock the test advances."""
    addresses = {
        name: plane.start_backend(name, model=model).address for name, model in names(sample).items()
    }
    ports = None
    if collector:
        plane.start_collector()
        ports = (plane.collector_grpc, plane.collector_http)
    with TimedPlane(plane.folder, plane.xds, collector=ports) as control:
        text = local(sample, addresses)
        assert control.apply(text) == ["created"]
        envoy = plane.start_envoy()
        users = Users(envoy.entry)
        try:
            yield Stage(plane, control, envoy, users, text, addresses)
            assert users.failed == []
        finally:
            users.close()


def check_only_gains(before: dict[str, str], after: dict[str, str], candidate: str) -> None:
    """Check that no user of the candidate has left it."""
    left = [user for user, variant in before.items() if variant == candidate != after[user]]
    assert left == []


def check_share(found: int, percent: float, of: int = MANY) -> None:
    """Check that a count is within five standard deviations of its expected value."""
    expected = of * percent / 100
    assert abs(found - expected) <= 5 * (expected * (1 - percent / 100)) ** 0.5 + 1, (found, expected)


def test_01_shadow(plane: Plane) -> None:
    with staged(plane, "01-shadow.yaml") as stage:
        stage.control.held("shadow")
        assert stage.split() == {"v1": MANY}
        copies = eventually(lambda: stage.requests("v2/shadow"), lambda n: n > 0)
        check_share(copies, 20)
        stage.control.advance(24 * HOUR)
        assert stage.control.held("Healthy")["outcome"] == "Completed"
        before = stage.requests("v2/shadow")
        assert stage.split() == {"v1": MANY}
        assert stage.requests("v2/shadow") == before


def test_02_canary(plane: Plane) -> None:
    with staged(plane, "02-canary.yaml") as stage:
        stage.users.entry = stage.envoy.entry
        seen: dict[str, str] = {}
        for weight, hours in ((5, 24.0), (25, 1.0), (50, 0.0)):
            stage.control.held("pause", weight)
            now = stage.users.variants(MANY, host="llm.example.com")
            check_share(sum(variant == "v2" for variant in now.values()), weight)
            check_only_gains(seen, now, "v2")
            seen = now
            stage.control.advance(hours * HOUR - 60)
            assert stage.users.variants(MANY, host="llm.example.com") == seen, (
                "no weight changes before its time"
            )
            stage.control.advance(60)
        stage.control.advance(1_000 * HOUR)
        stage.control.held("Paused", 50)
        stage.control.act(Action.PROMOTE)
        stage.control.held("Baking", 100)
        assert stage.split(host="llm.example.com") == {"v2": MANY}
        stage.control.advance(HOUR / 2)
        assert stage.control.held("Healthy")["outcome"] == "Promoted"


def test_03_ab_test(plane: Plane) -> None:
    with staged(plane, "03-ab-test.yaml", collector=True) as stage:
        stage.control.held("experiment", 40)
        first = stage.users.variants(MANY)
        counted = Counter(first.values())
        for variant in ("v2", "v3"):
            check_share(counted[variant], 20)
        assert stage.users.variants(MANY) == first, "a user keeps the variant"

        def exposed() -> dict[str, Any]:
            found = plane.collector_api.get("/v1/exposures?route=chat")["experiments"]
            return dict(found[0]) if found else {}

        report = eventually(
            exposed, lambda e: sum(v["requests"] for v in e.get("variants", {}).values()) == 2 * MANY
        )
        assert {name: variant["units"] for name, variant in report["variants"].items()} == dict(counted)
        assert (report["crossovers"], report["experiment"]) == (0, "tone-2026-11")
        stage.control.advance(14 * 24 * HOUR)
        assert stage.control.held("Healthy")["outcome"] == "Completed"
        assert stage.split() == {"v1": MANY}


def test_04_blue_green(plane: Plane) -> None:
    with staged(plane, "04-blue-green.yaml") as stage:
        stage.control.held("Paused", 0)
        assert stage.split() == {"vllm-0-5": MANY}
        assert stage.split(20, x_tester="yes") == {"vllm-0-6": 20}
        stage.control.act(Action.PROMOTE)
        view = stage.control.held("Healthy", 100)
        assert stage.split() == {"vllm-0-6": MANY}
        assert view["warm_until"] == pytest.approx(view["events"][-1]["at"] + 72 * HOUR, abs=5)
        stage.control.act(Action.UNDO)
        view = stage.control.held("RolledBack")
        assert (view["outcome"], stage.split()) == ("Undone", {"vllm-0-5": MANY})


def test_05_targeting(plane: Plane) -> None:
    with staged(plane, "05-targeting.yaml") as stage:
        stage.control.held("Paused", 5)
        all_users = stage.users.variants(MANY)
        check_share(sum(variant == "v2" for variant in all_users.values()), 5)
        assert stage.split(20, x_org_id="acme", x_client_version="1.0.0") == {"v2": 20}, (
            "targets take precedence"
        )
        assert stage.split(20, x_client_version="2.3.0-rc.1") == {"v1": 20}
        assert stage.users.variants(MANY, x_client_version="2.3.0") == all_users
        assert stage.split(20, x_user_beta="true", x_region="eu-west-1") == {"v2": 20}
        assert stage.users.variants(MANY, x_user_beta="true", x_region="us-east-1") == all_users
        gold = stage.users.variants(MANY, x_tier="gold")
        check_share(sum(variant == "v2" for variant in gold.values()), 20)
        assert stage.users.variants(MANY, x_tier="platinum") == gold
        both = sum(gold[user] == all_users[user] == "v2" for user in gold)
        assert both < 10, "the rule has its own salt"


def test_06_kill_switch(plane: Plane) -> None:
    with staged(plane, "06-kill-switch.yaml") as stage:
        stage.control.held("Paused", 50)
        before = stage.users.variants(MANY)
        check_share(sum(variant == "v2" for variant in before.values()), 50)
        stage.control.act(Action.KILL, "v2 leaks names")
        view = stage.control.held("Killed")
        assert (view["kill"]["actor"], view["kill"]["reason"]) == ("test", "v2 leaks names")
        assert stage.split() == {"v1": MANY}
        stage.control.act(Action.UNKILL)
        stage.control.held("Paused", 50)
        assert stage.users.variants(MANY) == before
        stage.control.apply(stage.text.replace("enabled: false", "enabled: true\n    reason: policy"))
        stage.control.held("Killed")
        assert stage.split() == {"v1": MANY}
        stage.control.apply(stage.text)
        stage.control.held("Paused", 50)
        assert stage.users.variants(MANY) == before


def test_07_prompt_version(plane: Plane) -> None:
    with staged(plane, "07-prompt-version.yaml") as stage:
        stage.control.held("Healthy")
        organisations = [f"org-{n}" for n in range(MANY)]
        for organisation in [*organisations, "acme"]:
            stage.users.ask("u", x_org_id=organisation)
        last = stage.received("v1", MANY + 1, "x-org-id", "x-shiftplane-prompt")
        given = {headers["x-org-id"]: headers["x-shiftplane-prompt"] for headers in last}
        check_share(sum(version == "4" for version in given.values()), 10)
        assert set(given.values()) == {"3", "4"}
        assert given["acme"] == "4"
        for organisation in organisations:
            slot = xxhash.xxh32(f"chat/prompt:{organisation}".encode()).intdigest() % 10_000
            assert given[organisation] == ("4" if slot < 1_000 else "3")


@pytest.mark.parametrize(
    ("sample", "weights", "interval", "bake"),
    [
        ("08-linear.yaml", (25, 50, 75, 100), 300.0, 600.0),
        ("09-exponential.yaml", (10, 20, 40, 80, 100), 240.0, 600.0),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_08_and_09_growth(
    plane: Plane, sample: str, weights: tuple[int, ...], interval: float, bake: float
) -> None:
    with staged(plane, sample) as stage:
        seen: dict[str, str] = {}
        for weight in weights:
            stage.control.held("pause", weight)
            now = stage.users.variants(MANY)
            check_share(sum(variant == "v2" for variant in now.values()), weight)
            check_only_gains(seen, now, "v2")
            seen = now
            stage.control.advance(interval)
        stage.control.held("Baking", 100)
        stage.control.advance(bake)
        assert stage.control.held("Healthy")["outcome"] == "Promoted"


def test_10_all_at_once(plane: Plane) -> None:
    with staged(plane, "10-all-at-once.yaml") as stage:
        stage.control.held("Baking", 100)
        assert stage.split() == {"v2": MANY}
        stage.control.advance(600)
        assert stage.control.held("Healthy")["outcome"] == "Promoted"


def test_11_shadow_to_canary(plane: Plane) -> None:
    with staged(plane, "11-shadow-to-canary.yaml", collector=True) as stage:
        stage.control.held("shadow")
        eventually(lambda: "pairs_before", lambda _: True)
        stage.control.advance(HOUR)
        assert stage.split() == {"v1": MANY}, "an hour is not enough while pairs are missing"
        stage.control.held("shadow")
        for _ in range(4):
            stage.split()
        for weight in (5, 25, 50):
            stage.control.held("pause", weight)
            check_share(stage.split().get("v2", 0), weight)
            stage.control.advance(HOUR)
        stage.control.held("Baking", 100)
        assert stage.split() == {"v2": MANY}
        assert "evidence" in stage.control.kinds()


def test_12_blue_green_canary(plane: Plane) -> None:
    with staged(plane, "12-blue-green-canary.yaml") as stage:
        stage.control.held("Paused", 0)
        assert stage.split() == {"blue": MANY}
        assert stage.split(20, x_tester="1") == {"green": 20}
        stage.control.act(Action.PROMOTE)
        for weight in (10, 50):
            stage.control.held("pause", weight)
            check_share(stage.split().get("green", 0), weight)
            stage.control.advance(HOUR / 2)
        view = stage.control.held("Healthy", 100)
        assert stage.split() == {"green": MANY}
        assert view["warm_until"] is not None


def test_a_candidate_that_dies_is_taken_back(plane: Plane) -> None:
    with staged(plane, "06-kill-switch.yaml") as stage:
        stage.control.held("Paused", 50)
        backend = next(process for process in plane.processes if process.name == "backend-v2")
        backend.kill()
        view = stage.control.held("RolledBack")
        assert view["outcome"] == "RolledBack"
        assert "v2 has no healthy endpoint" in view["message"]
        assert stage.split() == {"v1": MANY}

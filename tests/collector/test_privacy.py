"""Secrets in messages appear neither in the store nor in logs, metrics or pages."""

from __future__ import annotations

import json
import os
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from mirror_collector.cli import main
from mirror_collector.compare import LegCounts
from mirror_collector.exchange import Pair, Role
from mirror_collector.settings import Settings, SettingsError, load_settings, read_text
from mirror_collector.store import (
    MessageCipher,
    MessageStorage,
    PrivacyPolicy,
    RoutePrivacyPolicy,
    StoreError,
    StoreLimits,
    StoreReader,
    StoreWriter,
)
from tests.collector.builders import chat_json, document, leg
from tests.collector.running import Setting

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from mirror_collector.store import Location
    from tests.collector.running import Collector

    Start = Callable[..., AbstractAsyncContextManager[Collector]]

SECRETS = (
    "jo.doe@example.com",
    "4111111111111111",
    "sk-abcdefghijklmnopqrstuvwxyz",
    "+49 170 7654321",
    "s3cretbearertoken",
    "lovelace",
    "hunter2hunter",
)
MESSAGE = (
    "mail jo.doe@example.com, card 4111111111111111, key sk-abcdefghijklmnopqrstuvwxyz, "
    "call +49 170 7654321, "
    "Authorization: Bearer s3cretbearertoken, password: hunter2hunter"
)
SETTINGS_WITH_MASKS = Settings.model_validate({"privacy": {"masks": ["$.user", "$..ssn"]}})


def legs_with_secrets() -> list[dict[str, Any]]:
    messages = [{"role": "user", "content": MESSAGE}]
    request = {"messages": messages, "user": "lovelace", "meta": {"ssn": "lovelace"}}
    legs = []
    for role in ("primary", "shadow"):
        one = document(role, "r1", MESSAGE)
        one |= {"unit": "lovelace", "path": "/v1/chat/completions?key=s3cretbearertoken"}
        one["request"] = {"body": json.dumps(request)}
        legs.append(one)
    return legs


def file_contents(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in folder.iterdir() if file.is_file())


async def test_secrets_appear_neither_in_store_nor_in_output(start: Start, tmp_path: Path) -> None:
    async with start(Setting(settings=SETTINGS_WITH_MASKS)) as collector:
        await collector.post(legs_with_secrets())
        bad = document("shadow", "r2", MESSAGE) | {"role": MESSAGE}
        answer = json.dumps(await collector.post([bad]))
        await collector.pairs_when(1)
        redact_password = [
            await collector.text(path) for path in ("/v1/pairs/1", "/pairs/1", "/", "/metrics", "/v1/summary")
        ]
        assert "[email]" in redact_password[0]
        logs = collector.log.getvalue()
    kept = file_contents(tmp_path)
    for secret in SECRETS:
        assert secret.encode() not in kept, secret
        assert not any(secret in text for text in (*redact_password, logs, answer)), secret


def policy_of_chat(policy: RoutePrivacyPolicy) -> PrivacyPolicy:
    return PrivacyPolicy(routes={"chat": policy})


def make_pair(text: str = "hello world") -> Pair:
    return Pair(primary=leg(Role.PRIMARY), shadow=leg(Role.SHADOW, body=chat_json(text)))


@pytest.mark.parametrize("storage", [MessageStorage.NONE, MessageStorage.HASHES])
def test_messages_are_not_stored_if_disabled(location: Location, storage: MessageStorage) -> None:
    with closing(
        StoreWriter(location, StoreLimits(), policy_of_chat(RoutePrivacyPolicy(storage=storage)))
    ) as writer:
        writer.write([make_pair()], LegCounts(), 1.0)
        with closing(StoreReader(location)) as reader:
            stored = reader.pair(1)
    assert stored is not None
    shadow = stored.legs["shadow"]
    assert (shadow.request, shadow.response, shadow.reply) == (b"", b"", None)
    hashes = shadow.document["messages"].get("hashes")
    primary = stored.legs["primary"].document["messages"].get("hashes")
    assert (hashes is not None) == (storage is MessageStorage.HASHES)
    assert hashes == primary, "both answers are equal"
    assert stored.summary["comparison"]["exact"] is True


def test_messages_are_encrypted(location: Location) -> None:
    keys = os.urandom(32), os.urandom(32)
    old, new = MessageCipher(keys[:1]), MessageCipher((keys[1], keys[0]))
    with closing(StoreWriter(location, StoreLimits(), None, old)) as writer:
        writer.write([make_pair("the old key")], LegCounts(), 1.0)
    with closing(StoreWriter(location, StoreLimits(), None, new)) as writer:
        assert b"old key" not in bytes(writer._connection.query("SELECT response FROM legs")[0][0])
        for cipher, known in (
            (new, "the old key"),
            (old, "the old key"),
            (MessageCipher((os.urandom(32),)), None),
        ):
            with closing(StoreReader(location, cipher)) as reader:
                stored = reader.pair(1)
            assert stored is not None
            reply = stored.legs["shadow"].reply
            assert (None if reply is None else reply.text) == known
        writer._connection.execute("UPDATE legs SET response = ? WHERE role = 'shadow'", (b"x" * 60,))
        with closing(StoreReader(location, new)) as reader:
            tampered = reader.pair(1)
        assert tampered is not None
        assert tampered.legs["shadow"].document["messages"]["unopened"] is True


def test_keys_are_read_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("ab" * 32 + "\n" + "q" * 42 + "g=\n")
    assert MessageCipher.from_key_file(file).enabled
    file.write_text("short\n")
    with pytest.raises(StoreError, match=r"keys: key 1 is invalid; a key must be 32 bytes"):
        MessageCipher.from_key_file(file)
    file.write_text("")
    with pytest.raises(StoreError, match="contains no key"):
        MessageCipher.from_key_file(file)
    file.write_bytes(b"abab\xff")
    with pytest.raises(StoreError, match=r"keys: not ASCII text \(byte 4\)"):
        MessageCipher.from_key_file(file)


@pytest.mark.parametrize("read", [lambda path: read_text(str(path)), load_settings])
def test_files_that_are_not_utf_8_are_an_error_with_the_position(
    tmp_path: Path, read: Callable[[Path], object]
) -> None:
    file = tmp_path / "collector.yaml"
    file.write_bytes(b"ab: \xff")
    with pytest.raises(SettingsError) as caught:
        read(file)
    assert str(caught.value) == f"cannot read {file}: not UTF-8 text (byte 4)"


def test_data_of_a_user_or_a_request_is_deleted(location: Location) -> None:
    def pair_of_unit(name: str, unit: str) -> Pair:
        primary = replace(leg(Role.PRIMARY, name), unit=unit)
        return Pair(primary=primary, shadow=leg(Role.SHADOW, name))

    with closing(StoreWriter(location, StoreLimits())) as writer:
        writer.write(
            [
                pair_of_unit("a", "ada"),
                pair_of_unit("b", "ada"),
                pair_of_unit("c", "bob"),
                pair_of_unit("d", ""),
            ],
            LegCounts(),
            1.0,
        )
        assert writer.forget(unit="ada")["pairs"] == 2
        assert writer.forget(request_id="d")["pairs"] == 1
        assert writer.forget(request_id="unknown")["pairs"] == 0
        left = writer._connection.query("SELECT request_id FROM pairs")
        assert left == [("c",)]
        assert writer._connection.query("SELECT COUNT(*) FROM legs") == [(2,)]


def test_a_route_can_have_its_own_retention(location: Location) -> None:
    policy = policy_of_chat(RoutePrivacyPolicy(retention=1000.0))
    other = Pair(primary=leg(Role.PRIMARY, route="code"), shadow=leg(Role.SHADOW, route="code"))
    with closing(StoreWriter(location, StoreLimits(retention=100.0), policy)) as writer:
        writer.write([make_pair(), other], LegCounts(), 0.0)
        while writer.delete_expired(500.0):
            pass
        assert writer._connection.query("SELECT route FROM pairs") == [("chat",)]
        while writer.delete_expired(1500.0):
            pass
        assert writer._connection.query("SELECT route FROM pairs") == []


def test_all_problems_of_the_settings_are_reported(tmp_path: Path) -> None:
    file = tmp_path / "collector.yaml"
    file.write_text(
        "privacy: {redact: [email, names], masks: ['$.['], retention: 5x, routes: {chat: {store: some}}}\n"
        "access: {tokens: [{name: ada, sha256: abc, role: boss}]}\nsinks: [{type: kafka}]\nextra: 1\n"
    )
    with pytest.raises(SettingsError) as caught:
        load_settings(file)
    problems = str(caught.value).splitlines()
    places = [line.removeprefix(f"{file}: ").partition(":")[0] for line in problems]
    assert sorted(places) == sorted(
        [
            "privacy.redact.1",
            "privacy.masks.0",
            "privacy.retention",
            "privacy.routes.chat.store",
            "access.tokens.0.sha256",
            "access.tokens.0.role",
            "sinks.0",
            "extra",
        ]
    )
    result = CliRunner().invoke(main, ["serve", "--config", str(file), "--store", str(tmp_path / "x")])
    assert result.exit_code == 1
    assert "access.tokens.0.role" in result.output

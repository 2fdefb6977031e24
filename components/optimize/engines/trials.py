"""Trials: each engine in a separate process that loads the model as a server does."""

import json
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Timer

import numpy as np

from components.data.raw_examples import Array
from components.runs.child_process import tied_to_parent
from contract.errors import SlipwayError
from contract.places import CODE_FOLDER
from contract.programs import MODEL_TRIAL, program_command
from contract.records.optimization import Machine
from contract.text_arrays import restored, storable

_READY = "ready"
_LONGEST_SECONDS = 900.0


@dataclass(frozen=True)
class Seen:
    """What a trial measured: figures by name, and answers by output to sample and judged rows."""

    figures: dict[str, float]
    machine: Machine
    answers: dict[str, Array]
    judged: dict[str, Array]


@dataclass(frozen=True)
class Trial:
    """A process that loads a model and waits to be told to measure it."""

    process: "subprocess.Popen[str]"
    folder: Path

    @classmethod
    def start(
        cls,
        model: Path,
        engine: Path | None,
        rows: Path,
        workplace: Path,
        judged_rows: Path | None = None,
    ) -> "Trial":
        """Start to load a model in the background.

        Args:
            model: The SavedModel.
            engine: The folder of the same for another engine, if that is to be tried.
            rows: What `write_rows` wrote.
            workplace: An existing folder.
            judged_rows: More such rows to answer, however long that takes.
        """
        folder = Path(tempfile.mkdtemp(prefix="trial-", dir=workplace))
        command = [*program_command(MODEL_TRIAL), "--model", str(model)]
        command += ["--engine", str(engine)] if engine is not None else []
        command += ["--rows", str(rows), "--answers", str(folder / "answers.npz")]
        if judged_rows is not None:
            command += ["--judged-rows", str(judged_rows), "--judged", str(folder / "judged.npz")]
        command += ["--report", str(folder / "report.json")]
        with (folder / "errors.log").open("w", encoding="utf-8") as errors:
            process = subprocess.Popen(
                tied_to_parent(command),
                cwd=CODE_FOLDER,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                encoding="utf-8",
                errors="replace",
            )
        return cls(process, folder)

    def measure(self) -> Seen:
        """Wait until it is loaded, let it measure, and return figures and answers.

        Raises:
            SlipwayError: If the engine cannot load or run the model; with its own words.
        """
        watchdog = Timer(_LONGEST_SECONDS, self.process.kill)
        watchdog.start()
        try:
            said = self._wait()
            self.process.communicate("measure\n")
        finally:
            watchdog.cancel()
        if self.process.returncode == -signal.SIGKILL:
            raise SlipwayError(f"its trial did not end within {_LONGEST_SECONDS:g} s")
        log = self.folder / "errors.log"
        if said != _READY or self.process.returncode:
            lines = log.read_text(errors="replace", encoding="utf-8").strip().splitlines()
            raise SlipwayError(said if said not in ("", _READY) else " | ".join(lines[-2:]))
        report = json.loads((self.folder / "report.json").read_text(encoding="utf-8"))
        machine = Machine.model_validate_json(json.dumps(report.pop("machine")))
        return Seen(report, machine, self._arrays("answers.npz"), self._arrays("judged.npz"))

    def stop(self) -> None:
        """End it, whatever it is doing."""
        self.process.kill()
        self.process.communicate()

    def _arrays(self, name: str) -> dict[str, Array]:
        if not (self.folder / name).exists():
            return {}
        with np.load(self.folder / name, allow_pickle=False) as arrays:
            return {output: restored(arrays[output]) for output in arrays.files}

    def _wait(self) -> str:
        """Return the first line that it says; a library may print others before."""
        assert self.process.stdout is not None
        last = ""
        for line in self.process.stdout:
            last = line.strip() or last
            if last == _READY:
                break
        return last


def write_rows(rows: Mapping[str, Array], path: Path) -> None:
    """Write sample rows for trials."""
    np.savez(path, allow_pickle=False, **{name: storable(rows[name]) for name in rows})

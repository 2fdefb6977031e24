"""What `slipway check` reports on a pipeline's code, imported as the components import it.

That is a separate process, which has the packages of the pipeline's `requirements.txt`;
`python -m cli.checks.code_check FOLDER` is what runs there.
"""

import contextlib
import json
import os
import re
import sys
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Any

from cli.checks.findings import Finding
from cli.checks.separate_process import run_apart
from contract.errors import ConfigError, SlipwayError, UserCodeError
from contract.loader import load_pipeline, own_state_folder
from contract.places import CODE_FOLDER
from contract.schema.pipeline import PipelineConfig

HOOKS: dict[str, dict[str, tuple[str, ...]]] = {
    "preprocessing.py": {"preprocessing_fn": ("inputs",)},
    "model.py": {"build_model": ("features", "hyperparameters")},
}
_SHOWN_LINES = 5
_GPUS = re.compile(r"^gpus: (\d+)$", re.MULTILINE)
_SAID = "findings: "  # without it the user's code has ended the process, whatever its exit code


def check_code(folder: Path, overrides: Mapping[str, Any]) -> Generator[Finding, None, int | None]:
    """Install the pipeline's packages, then look at its code in a process that has them.

    Returns:
        How many GPUs that process found, before the user's code ran; None if it did not get there.
    """
    from contract.own_packages import install_requirements
    from launching.environment import component_environment

    try:
        packages = install_requirements(folder, own_state_folder())
    except SlipwayError as error:
        yield from (Finding("packages", "error", line) for line in str(error).splitlines())
        return None
    if packages is not None:
        yield Finding("packages", "ok", f"requirements.txt is installed in {packages}")
    done = run_apart(
        [sys.executable, "-m", __name__, str(folder)],
        json.dumps(dict(overrides)),
        component_environment(os.environ, packages),
        CODE_FOLDER,
    )
    counted = _GPUS.search(done.stdout)  # the first such line: users' code comes after it
    gpus = int(counted[1]) if counted else None
    _, mark, findings = done.stdout.rpartition(_SAID)  # behind what native code may have printed
    if mark:
        yield from (Finding(**found) for found in json.loads(findings))
        return gpus
    said = "\n".join(done.stderr.strip().splitlines()[-_SHOWN_LINES:])
    message = f"the process that imports it ended with exit code {done.code}: {said}"
    yield Finding("code", "error", message)
    return gpus


def look(folder: Path, overrides: Mapping[str, Any]) -> Iterator[Finding]:
    """Import the user's two files in this process; look for their functions and metrics."""
    code = list(_functions(folder))
    yield from code
    if all(finding.state == "ok" for finding in code):
        config = load_pipeline(folder, overrides)
        traced = _preprocessing(folder, config)
        yield traced
        if traced.state == "ok":
            yield from _model(folder, config)
        yield from _metric_names(folder, config)


def _functions(folder: Path) -> Iterator[Finding]:
    from components.models.user_code import function_of, load_module

    for filename, functions in HOOKS.items():
        try:
            module = load_module(folder, filename)
            for name, parameters in functions.items():
                function_of(module, name, parameters)
        except SlipwayError as error:
            yield Finding("code", "error", str(error))
        else:
            yield Finding("code", "ok", f"{filename} imports and has {', '.join(functions)}")


def _preprocessing(folder: Path, config: PipelineConfig) -> Finding:
    """Trace the user's function on placeholders, as `transform` will before it reads a row."""
    import tensorflow_transform as tft
    from tfx_bsl.tfxio.tensor_adapter import TensorAdapter

    from components.models.user_code import library_refusals
    from components.transform.preprocessing import load_preprocessing
    from components.transform.raw_tensors import feature_tensors

    specs = TensorAdapter(feature_tensors(config)).OriginalTypeSpecs()
    try:
        with library_refusals("preprocessing.py: preprocessing_fn", "tensorflow_transform"):
            tft.get_analyze_input_columns(load_preprocessing(folder), specs)
    except SlipwayError as error:
        return Finding("code", "error", str(error))
    return Finding("code", "ok", f"preprocessing_fn takes the {len(specs)} features")


def _model(folder: Path, config: PipelineConfig) -> Iterator[Finding]:
    """Build the user's model on placeholders, twice, and try it, as `transform` will."""
    from components.models.model_look import look_at_model
    from components.transform.preprocessing import load_preprocessing

    try:
        warnings = look_at_model(config, folder, load_preprocessing(folder))
    except SlipwayError as error:
        yield Finding("model", "error", str(error))
        return
    yield from (Finding("model", "warning", warning) for warning in warnings)
    yield Finding("model", "ok", "build_model gives the same model twice, and logits of its heads")


def _metric_names(folder: Path, config: PipelineConfig) -> Iterator[Finding]:
    """Look for metrics that the config names and nobody measures."""
    from components.models.model_hooks import custom_metrics
    from components.quality.metrics import check_metrics

    try:
        check_metrics(config, custom_metrics(folder, config))
    except ConfigError as error:
        yield from (Finding("metrics", "error", problem) for problem in error.problems)
    except UserCodeError as error:
        yield Finding("metrics", "error", str(error))
    else:
        yield Finding("metrics", "ok", f"bless.metric: {config.bless.metric}")


def main() -> None:
    """Look at the folder that the command line names; print the findings as one line of JSON."""
    from components.runs.collector import collect_rarely
    from components.train.preflight import count_gpus

    collect_rarely()
    overrides = json.load(sys.stdin)
    with contextlib.suppress(ImportError):  # the user's code will meet it, and say where
        print(f"gpus: {count_gpus()}", flush=True)
    with contextlib.redirect_stdout(sys.stderr):  # users' files may print
        found = [finding.as_dict() for finding in look(Path(sys.argv[1]), overrides)]
    sys.stdout.write(_SAID + json.dumps(found) + "\n")
    sys.stdout.flush()
    os._exit(0)  # TensorFlow was seen to crash in its own tear-down


if __name__ == "__main__":
    main()

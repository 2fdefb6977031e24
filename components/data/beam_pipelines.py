"""Running Beam by config: any runner that Beam knows, and a DirectRunner that needs no network.

Beam is imported inside functions: a component that stops at its first check should not wait for it.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from contract.errors import ConfigError
from contract.schema.data import BeamConfig

if TYPE_CHECKING:
    import apache_beam as beam
    from apache_beam.runners.runner import PipelineRunner


def is_in_this_process(config: BeamConfig) -> bool:
    """Tell whether the config asks for no more than this process: then a loop does as well."""
    return config.runner == "DirectRunner" and not config.options


@contextmanager
def running_pipeline(config: BeamConfig, label: str) -> Iterator["beam.Pipeline"]:
    """Yield a pipeline to build; it runs to its end when the block ends.

    Args:
        label: What is running, for messages (`ingest`).

    Raises:
        ConfigError: If Beam does not know the runner or refuses its options.
    """
    pipeline = open_pipeline(config, label)
    with _quiet_libraries(), pipeline:
        yield pipeline


def open_pipeline(config: BeamConfig, label: str) -> "beam.Pipeline":
    """Return an empty pipeline on the runner that the config names, with its options.

    Raises:
        ConfigError: If Beam does not know the runner or refuses its options.
    """
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions

    try:
        options = PipelineOptions(list(config.options))
        return beam.Pipeline(runner=_runner(config.runner), options=options)
    except (ValueError, ImportError, SystemExit) as error:
        message = f"{label}.beam: runner '{config.runner}', options {list(config.options)}: {error}"
        raise ConfigError([message]) from error


@contextmanager
def _quiet_libraries() -> Iterator[None]:
    """Let only warnings of Beam, TensorFlow and tf.Transform through: they log every stage."""
    loud = [logging.getLogger(), logging.getLogger("tensorflow")]
    ours = logging.getLogger("slipway")
    levels = [logger.level for logger in (*loud, ours)]
    ours.setLevel(ours.getEffectiveLevel())
    for logger in loud:
        logger.setLevel(max(logger.level, logging.WARNING))
    try:
        yield
    finally:
        for logger, level in zip((*loud, ours), levels, strict=True):
            logger.setLevel(level)


def _runner(name: str) -> "str | PipelineRunner":
    if name != "DirectRunner":
        return name
    # Beam's own DirectRunner first tries to download and start another one, written in Go (Prism),
    # and falls back to this one, which runs in this process and needs no network.
    from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner

    return FnApiRunner()

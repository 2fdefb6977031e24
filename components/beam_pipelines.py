"""Running Beam by config: any runner that Beam knows, and a DirectRunner that needs no network.

Beam is imported inside functions: a component that stops at its first check should not wait for it.
"""

import errno
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from contract.errors import ConfigError, StorageError
from contract.schema.data import BeamConfig

if TYPE_CHECKING:
    import apache_beam as beam
    from apache_beam.runners.runner import PipelineRunner

# What file systems and TensorFlow say when the disk is full; Beam hands on the text only.
_DISK_FULL = (os.strerror(errno.ENOSPC), "RESOURCE_EXHAUSTED", os.strerror(errno.EDQUOT))


@contextmanager
def running_pipeline(config: BeamConfig, label: str) -> Iterator["beam.Pipeline"]:
    """Yield a pipeline to build; it runs to its end when the block ends.

    Args:
        label: What is running, for messages (`ingest`).

    Raises:
        ConfigError: If Beam does not know the runner or refuses its options.
        StorageError: If the disk was full.
    """
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions

    try:
        options = PipelineOptions(list(config.options))
        pipeline = beam.Pipeline(runner=_runner(config.runner), options=options)
    except (ValueError, ImportError, SystemExit) as error:
        message = f"{label}.beam: runner '{config.runner}', options {list(config.options)}: {error}"
        raise ConfigError([message]) from error
    try:
        with _quiet_libraries(), pipeline:
            yield pipeline
    except Exception as error:
        if any(text in str(error) for text in _DISK_FULL):
            raise StorageError(
                f"{label}: disk full; nothing was published. Free space and run again."
            ) from error
        raise


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

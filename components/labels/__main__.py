"""`python -m components.labels --pipeline P --root DIR --file F`: add labelled rows, as a DAG does.

Prints the record as one line of JSON. Its caller announces the new labels.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from components.labels.labelled_files import LabelFile
from components.labels.labels import add_labels
from contract.errors import EXIT_DONE, SlipwayError
from contract.layout import PipelineLayout
from contract.loader import load_pipeline
from contract.pipelines import find_pipeline
from contract.storage import local_path

log = logging.getLogger("slipway")


def main(arguments: Sequence[str]) -> int:
    """Add a file of labelled rows; return the exit code (2: the file or the config is wrong)."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    parser = argparse.ArgumentParser(prog="python -m components.labels", description=__doc__)
    parser.add_argument("--pipeline", required=True)
    parser.add_argument("--root", type=local_path, required=True, help="artifact root")
    parser.add_argument("--file", type=Path, required=True, help="CSV file of labelled rows")
    parser.add_argument("--author", default="", help="who labelled them")
    given = parser.parse_args(arguments)
    try:
        config = load_pipeline(find_pipeline(given.pipeline))
        layout = PipelineLayout(given.root, given.pipeline)
        file = LabelFile(given.file)
        record = add_labels(layout, config, file, given.author, datetime.now(UTC))
    except SlipwayError as error:
        log.error("%s", error)
        return error.exit_code
    sys.stdout.write(f"{record.model_dump_json()}\n")
    return EXIT_DONE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""The `slipway` command; `python -m slipway` is the same.

Started by a link named `tensorflow_model_server` it is `slipway serve-tf`, for whoever has scripts
that start that program.
"""

import sys
from pathlib import Path


def main() -> None:
    """Run the command line; `import slipway` has put our packages on the path before."""
    from cli.commands.standalone import TENSORFLOW_MODEL_SERVER
    from cli.main import app

    if Path(sys.argv[0]).name == TENSORFLOW_MODEL_SERVER:
        words = ["--helpfull" if word == "--help" else word for word in sys.argv[1:]]
        app(["serve-tf", *words])
    app()


if __name__ == "__main__":
    main()

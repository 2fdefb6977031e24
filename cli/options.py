"""Arguments and options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

NameArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="The pipeline's name, as in 'digits'.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a config value; may be repeated."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
VersionOption = Annotated[
    int | None, typer.Option("--version", min=1, help="A kept version's number.")
]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask at a terminal.")]
CertificateOption = Annotated[
    Path | None, typer.Option(exists=True, dir_okay=False, help="Serve TLS with this PEM chain.")
]
PrivateKeyOption = Annotated[
    Path | None, typer.Option(exists=True, dir_okay=False, help="Serve TLS with this PEM key.")
]

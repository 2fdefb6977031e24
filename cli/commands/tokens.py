"""Commands for tokens of the serving agent: token add, list, remove."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from cli.help_texts import PlainCommand, PlainGroup
from cli.options import JsonOption
from cli.output import data, print_json, say
from contract.errors import NotFoundError, UserError

if TYPE_CHECKING:
    from contract.records.access import AgentTokens, Right

TOKENS = "agent.tokens.json"  # in the state folder

app = typer.Typer(
    cls=PlainGroup,
    help="Tokens for others than the owner, with some of the serving agent's rights.",
    no_args_is_help=True,
)

FileOption = Annotated[
    Path | None,
    typer.Option(
        "--file",
        help="File of the tokens; default: agent.tokens.json of the state folder. On Kubernetes, "
        "the key 'tokens.json' of the Secret slipway-agent.",
    ),
]
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="What messages call the token.")]


@app.callback()
def token() -> None:
    """Tokens for others than the owner, with some of the serving agent's rights."""


@app.command(cls=PlainCommand)
def add(
    name: NameArgument,
    right: Annotated[
        list[str],
        typer.Option(
            help="read, propose (plans), approve (hold and resume trials), label (answer "
            "questions on the label page), review (decide where labellers disagree) or report "
            "(what has turned out to be true of predictions); repeatable."
        ),
    ],
    pipeline: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Only for this pipeline; repeatable. Default: all."),
    ] = None,
    file: FileOption = None,
) -> None:
    """Make a token and print it, this once: only a digest is kept. The agent knows it at once.

    [bold]Examples[/]

    [cyan]$ slipway token add dashboard --right read[/]

    [cyan]$ slipway token add ci --right read --right propose --pipeline digits > ci.token[/]

    [cyan]$ slipway token add ada --right label --pipeline digits[/]
    """
    from contract.loader import own_state_folder
    from contract.records.access import ALL_PIPELINES, AgentToken
    from contract.storage import exclusive_lock
    from contract.tokens import new_token, token_digest

    path, made = file or own_state_folder() / TOKENS, new_token()
    record = AgentToken(
        name=name,
        digest=token_digest(made),
        rights=tuple(dict.fromkeys(_right(one) for one in right)),
        pipelines=tuple(pipeline or [ALL_PIPELINES]),
        created_at=datetime.now(UTC),
    )
    with exclusive_lock(path.with_suffix(".lock")):
        known = _read(path)
        if known.named(name) is not None:
            raise UserError(
                f"{path}: there is a token '{name}'; 'slipway token remove {name}' removes it"
            )
        known.model_copy(update={"tokens": (*known.tokens, record)}).write(path)
    say(f"Token '{name}': {record.in_words}")
    data.print(made)


@app.command(name="list", cls=PlainCommand)
def show(file: FileOption = None, is_json: JsonOption = False) -> None:
    """List the tokens and their rights.

    [bold]Examples[/]

    [cyan]$ slipway token list[/]
    """
    from rich.table import Table

    tokens = _read(_file(file)).tokens
    if is_json:
        print_json([one.model_dump(mode="json", exclude={"digest"}) for one in tokens])
        return
    table = Table("token", "rights", "pipelines", "made", box=None)
    for one in tokens:
        made = f"{one.created_at:%Y-%m-%d}"
        table.add_row(one.name, ", ".join(one.rights), ", ".join(one.pipelines), made)
    data.print(table)


@app.command(cls=PlainCommand)
def remove(name: NameArgument, file: FileOption = None) -> None:
    """Remove a token; the agent refuses it at once.

    [bold]Examples[/]

    [cyan]$ slipway token remove ci[/]
    """
    from contract.storage import exclusive_lock

    path = _file(file)
    with exclusive_lock(path.with_suffix(".lock")):
        known = _read(path)
        if known.named(name) is None:
            names = ", ".join(one.name for one in known.tokens) or "none"
            raise NotFoundError(f"{path}: no token '{name}' (there: {names})")
        kept = tuple(one for one in known.tokens if one.name != name)
        known.model_copy(update={"tokens": kept}).write(path)
    say(f"Token '{name}' is removed.")


def _right(text: str) -> "Right":
    from contract.records.access import Right

    known: tuple[Right, ...] = get_args(Right)
    for one in known:
        if text == one:
            return one
    raise UserError(f"--right {text}: unknown (known: {', '.join(known)})")


def _file(given: Path | None) -> Path:
    from contract.loader import state_folder

    return given or state_folder() / TOKENS


def _read(path: Path) -> "AgentTokens":
    from contract.records.access import AgentTokens

    try:
        return AgentTokens.read(path)
    except NotFoundError:
        return AgentTokens()

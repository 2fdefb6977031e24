"""The command for what has turned out to be true of predictions: labels truth."""

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from cli.commands.asking import HeadOption
from cli.commands.label_page import DatabaseOption, open_database
from cli.extras import require
from cli.options import NameArgument
from cli.output import say
from cli.people import user_name

_SHOWN_REFUSALS = 10


def truth(
    name: NameArgument,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="CSV with request_id, row and label.")
    ],
    head: HeadOption = "",
    database: DatabaseOption = "",
) -> None:
    """Tell what has turned out to be true of predictions, as programs do by 'POST /truth/NAME'.

    The newest label of a row counts. The label loop judges the version in service by them.

    [bold]Examples[/]

    [cyan]$ slipway labels truth digits outcomes.csv[/]
    """
    require("serving")
    from cli.labels.answer_files import read_gold
    from serving.labels.store.questions import topic_id
    from serving.labels.store.records import Truth
    from serving.labels.store.truths import tell

    store = open_database(database)
    topic = topic_id(store, name, head)
    known = read_gold(file, topic[1].classes)
    said = [Truth(one, int(row), label) for (one, row), label in known.items()]
    done = tell(store, topic, said, user_name(), time.time())
    say(
        f"{done.added:,} labels, {done.corrected:,} corrected, {done.known:,} known already, "
        f"{len(done.refused):,} refused"
    )
    for words in done.refused[:_SHOWN_REFUSALS]:
        say(f"  {escape(words)}")

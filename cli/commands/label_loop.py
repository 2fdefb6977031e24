"""Commands of the label loop: labels loop, labels accuracy."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from cli.commands.advising import roll_back
from cli.commands.asking import HeadOption
from cli.commands.label_page import DatabaseOption, open_database
from cli.commands.labelling import pipeline_of
from cli.extras import require
from cli.options import JsonOption, NameArgument
from cli.output import print_json, say
from contract.errors import UserError

if TYPE_CHECKING:
    from contract.records.label_loop import HarvestRecord

_PARTS = ("harvest", "learn")


def loop(
    name: NameArgument,
    only: Annotated[
        str, typer.Option(metavar="PART", help="harvest or learn; default: one after the other.")
    ] = "",
    database: DatabaseOption = "",
    is_json: JsonOption = False,
) -> None:
    """Turn the label loop once, as the section 'labels' of pipeline.yaml says.

    It asks about rows that were logged since its last turn, and stores what people have agreed on
    once that is enough. Airflow does this by the DAG 'NAME.labels', which then starts the
    pipeline's run; without Airflow the next run reads the labels. It may be killed and called
    again at any time.

    [bold]Examples[/]

    [cyan]$ slipway labels loop digits[/]
    """
    require("components", "serving")
    from cli.commands.traffic import show
    from cli.labels.loop import Loop, labels_config
    from contract.records.quality import LabelVerdict

    if only and only not in _PARTS:
        raise UserError(f"--only {only}: expected {' or '.join(_PARTS)}")
    layout, config = pipeline_of(name)
    turn, shown = Loop(layout, config, open_database(database)), {}
    if only != "learn":
        harvest = turn.harvest(datetime.now(UTC))
        shown["harvest"] = harvest.model_dump(mode="json")
        if not is_json:
            for words in (_harvested(harvest), *filter(None, [harvest.problem])):
                say(escape(words))
    if only != "harvest":
        record = turn.learn(datetime.now(UTC))
        shown["learn"] = record.model_dump(mode="json")
        for words in () if is_json else record.in_words(labels_config(config).min_labels):
            say(escape(words))
        if record.is_worse and labels_config(config).rolls_back:
            verdict = LabelVerdict.read(layout.label_verdict)
            plan = roll_back(verdict, True, is_json, "the label loop")
            shown["rollback"] = plan.model_dump(mode="json")
            if not is_json:
                show(plan, is_json=False)
    if is_json:
        print_json(shown)


def accuracy(
    name: NameArgument,
    head: HeadOption = "",
    database: DatabaseOption = "",
    is_json: JsonOption = False,
) -> None:
    """Show how accurate each version is, by the labels that people have given so far.

    Rows that were chosen because the model was unsure count less, by the probability of their
    choice, so that the figures are those of all requests. Slices are those of `evaluate.slices`.

    [bold]Examples[/]

    [cyan]$ slipway labels accuracy digits[/]
    """
    require("components", "serving")
    from cli.labels.accuracy import champion_of, online_accuracy
    from cli.labels.agreement import agreement
    from contract.records.label_loop import accuracy_in_words

    layout, config = pipeline_of(name)
    head = head or (config.labels.head if config.labels else "")
    found = online_accuracy(layout, config, agreement(open_database(database), config, head))
    if is_json:
        print_json([one.model_dump(mode="json") for one in found])
        return
    for words in accuracy_in_words(found, champion_of(layout)):
        say(escape(words))
    if not found:
        say("no answered row is in the prediction log")


def _harvested(harvest: "HarvestRecord") -> str:
    since = f"from {harvest.since:%Y-%m-%d %H:%M:%S} " if harvest.since else ""
    part = f"the log {since}until {harvest.until:%Y-%m-%d %H:%M:%S} UTC"
    return f"{harvest.questions:,} questions of {part}; 'slipway labels serve' asks them"

"""Commands that ask people for labels: labels choose, labels consensus."""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer
from rich.markup import escape

from cli.commands.labelling import pipeline_of
from cli.extras import require
from cli.options import NameArgument
from cli.output import say
from contract.errors import UserError, did_you_mean
from contract.storage import storage_errors

if TYPE_CHECKING:
    from components.labels.choosing.candidates import Period
    from components.labels.choosing.questions import Question, Wish
    from contract.layout import PipelineLayout
    from contract.schema.labels import Measure
    from contract.schema.pipeline import PipelineConfig

ByOption = Annotated[
    str,
    typer.Option(
        "--by", help="margin, least_confidence, entropy, disagreement (with a shadow) or novelty."
    ),
]
BudgetOption = Annotated[int, typer.Option(min=1, help="Rows for each day of the log.")]
PerClassOption = Annotated[
    int | None, typer.Option(min=1, help="Most rows of one predicted class a day, on average.")
]
AuditOption = Annotated[
    float,
    typer.Option(
        "--audit-ratio", min=0.001, max=1.0, help="Share that is chosen whatever the model thinks."
    ),
]
AlikeOption = Annotated[
    float, typer.Option("--alike", min=0.0, help="Rows nearer than this are asked about once.")
]
HeadOption = Annotated[str, typer.Option(help="Head that is asked about, where there are several.")]
SinceOption = Annotated[
    str, typer.Option(metavar="TIME", help="First hour of the log, as 2026-11-29T15, in UTC.")
]
UntilOption = Annotated[str, typer.Option(metavar="TIME", help="Last hour of the log, in UTC.")]
SeedOption = Annotated[
    int | None, typer.Option(min=0, help="Repeats a choice; default: another one each time.")
]

OutOption = Annotated[Path | None, typer.Option(metavar="FILE", help="CSV file; default: stdout.")]


def choose(
    name: NameArgument,
    by: ByOption = "margin",
    budget: BudgetOption = 100,
    per_class: PerClassOption = None,
    audit: AuditOption = 0.1,
    alike: AlikeOption = 0.02,
    head: HeadOption = "",
    since: SinceOption = "",
    until: UntilOption = "",
    seed: SeedOption = None,
    out: OutOption = None,
) -> None:
    """Choose logged predictions that are worth a label, as CSV with an empty column for it.

    Each row has the probability with which it was chosen. Fill in the labels, then 'slipway labels
    add' trains on them, and 'slipway judge labels' measures the version in service with them.

    [bold]Examples[/]

    [cyan]$ slipway labels choose digits --budget 50 --out ask.csv[/]

    [cyan]$ slipway labels choose census --by disagreement --since 2026-11-29T15[/]
    """
    from components.labels.choosing.questions import as_csv

    layout, config = pipeline_of(name)
    wish = wish_of(config, by, head, (budget, per_class, audit, alike), period_of(since, until))
    questions = chosen(layout, config, wish, seed)
    text = as_csv(questions, config.label_column(wish.head))
    audits = sum(question.is_audit for question in questions)
    write_out(text, out)
    where = f": {escape(str(out))}" if out else ""
    say(f"{len(questions):,} rows to label, {audits:,} of them for the audit{where}")


def write_out(text: str, out: Path | None) -> None:
    """Write a file, or the output."""
    if out is None:
        sys.stdout.write(text)
        return
    with storage_errors(out):
        out.write_text(text, encoding="utf-8")


def chosen(
    layout: "PipelineLayout", config: "PipelineConfig", wish: "Wish", seed: int | None
) -> "list[Question]":
    """Return the chosen rows; without a seed others each time."""
    require("components")
    import numpy as np

    from components.labels.choosing.questions import choose_questions

    return choose_questions(layout, config, wish, np.random.default_rng(seed))


def wish_of(
    config: "PipelineConfig",
    by: str,
    head: str,
    numbers: tuple[int, int | None, float, float],
    period: "Period",
) -> "Wish":
    """Return what the options of a choice say; `numbers` are budget, per class, audit, alike."""
    from components.labels.choosing.choice import Budget, Variety
    from components.labels.choosing.questions import Wish, head_to_ask

    budget, per_class, audit, alike = numbers
    return Wish(
        head=head_to_ask(config, head),
        measure=_measure(by),
        budget=Budget(budget, per_class, audit),
        variety=Variety(alike),
        period=period,
    )


def period_of(since: str, until: str) -> "Period":
    """Return the hours that two options name.

    Raises:
        UserError: If one is no time.
    """
    from components.labels.choosing.candidates import Period

    return Period(_time("--since", since), _time("--until", until))


def _measure(by: str) -> "Measure":
    from contract.schema.labels import Measure

    known: tuple[Measure, ...] = get_args(Measure)
    for one in known:
        if by == one:
            return one
    raise UserError(
        f"--by {by}: unknown measure{did_you_mean(by, known)} (known: {', '.join(known)})"
    )


def _time(option: str, text: str) -> datetime | None:
    if not text:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise UserError(
            f"{option} {text}: expected a date or a time in UTC, such as 2026-11-29T15"
        ) from error
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def consensus(
    name: NameArgument,
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="CSV with the columns request_id, row, labeller and label."
        ),
    ],
    head: HeadOption = "",
    min_confidence: Annotated[
        float,
        typer.Option(min=0.0, max=1.0, help="Labels that are less sure are left out."),
    ] = 0.9,
    out: OutOption = None,
) -> None:
    """Make one label of several people's answers, with its confidence; say who guesses.

    Nobody has to be trusted: who agrees with whom tells how often each of them errs. The columns
    probability, audit_probability and is_audit of the answers are kept: 'slipway judge labels'
    needs the first.

    [bold]Examples[/]

    [cyan]$ slipway labels consensus digits answers.csv --out labels.csv[/]
    """
    require("components")
    from cli.labels.learning import in_words
    from components.labels.choosing.questions import head_to_ask
    from components.labels.consensus.settling import as_csv, read_answers, settle, sure

    _, config = pipeline_of(name)
    asked = head_to_ask(config, head)
    classes = config.heads[asked].classes
    given = read_answers(file, classes)
    found = settle(given, classes)
    labels = [*sure(found, min_confidence)]
    write_out(as_csv(labels, config.label_column(asked), given), out)
    for words in in_words(found):
        say(f"  {escape(words)}")
    say(
        f"{len(labels):,} of {len(found.labels):,} rows have a label of at least "
        f"{min_confidence:g} confidence; {given.bad:,} rows of {escape(str(file))} are no answers"
    )

"""Commands of the label page: labels serve, harvest, gold, export, import, learn."""

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from cli.commands.asking import (
    AlikeOption,
    AuditOption,
    BudgetOption,
    ByOption,
    HeadOption,
    OutOption,
    PerClassOption,
    SeedOption,
    SinceOption,
    UntilOption,
    chosen,
    period_of,
    wish_of,
    write_out,
)
from cli.commands.labelling import add_file, pipeline_of
from cli.extras import require
from cli.options import CertificateOption, JsonOption, NameArgument, PrivateKeyOption
from cli.output import say
from contract.errors import UserError

if TYPE_CHECKING:
    from serving.labels.store.database import Database

DatabaseOption = Annotated[
    str,
    typer.Option(
        metavar="URL",
        envvar="SLIPWAY_LABELS_DATABASE",
        help="Such as postgresql://user@host/labels; default: labels.db of the state folder.",
    ),
]
FormatOption = Annotated[str, typer.Option("--format", help="csv, or label-studio (JSON).")]
ExportOption = Annotated[
    str, typer.Option("--format", help="csv, label-studio (JSON), or truth (CSV).")
]

_SHOWN_REFUSALS = 10


def serve(
    database: DatabaseOption = "",
    tokens: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Tokens of 'slipway token add NAME --right label'; default: agent.tokens.json of "
            "the state folder.",
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="Address on which it listens.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port on which it listens.")] = 8800,
    certificate: CertificateOption = None,
    private_key: PrivateKeyOption = None,
    is_behind_tls: Annotated[
        bool, typer.Option("--behind-tls", help="A proxy before it speaks TLS with browsers.")
    ] = False,
    proxy: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS",
            help="Address or network of that proxy, which says who asks (X-Forwarded-For); "
            "default: this machine.",
        ),
    ] = "",
    framed_by: Annotated[
        str,
        typer.Option(
            metavar="ORIGIN",
            help="Site that may show the pages in a frame, such as Airflow's: "
            "http://127.0.0.1:8080. Default: none.",
        ),
    ] = "",
) -> None:
    """Serve the pages of questions, conflicts and live predictions, until Ctrl-C.

    A token opens those of its rights: label, review and read.

    [bold]Examples[/]

    [cyan]$ slipway token add ada --right label[/]

    [cyan]$ slipway labels serve[/]

    [cyan]$ slipway labels serve --database postgresql://labels@db/labels --host 0.0.0.0 \\
        --certificate tls.crt --private-key tls.key[/]
    """
    require("serving")
    from cli.labels.live import traffic
    from cli.labels.reviewing import judge
    from cli.stack.stack_file import artifact_root
    from contract.loader import own_state_folder
    from serving.labels.server import PageSettings, Sources, serve_labels

    settings = PageSettings(
        database=_url(database),
        tokens=tokens or own_state_folder() / "agent.tokens.json",
        secret=own_state_folder() / "labels.secret",
        host=host,
        port=port,
        certificate=certificate,
        private_key=private_key,
        is_behind_tls=is_behind_tls,
        proxy=proxy,
        framed_by=framed_by,
    )
    settings.check()
    scheme = "https" if certificate else "http"
    say(f"The label page is on {scheme}://{host}:{port}: stop it with Ctrl-C")
    serve_labels(settings, Sources(artifact_root(), judge(), traffic()))


def harvest(
    name: NameArgument,
    people: Annotated[
        int, typer.Option(min=1, max=100, help="Answers for each question, by different people.")
    ] = 3,
    by: ByOption = "margin",
    budget: BudgetOption = 100,
    per_class: PerClassOption = None,
    audit: AuditOption = 0.1,
    alike: AlikeOption = 0.02,
    head: HeadOption = "",
    since: SinceOption = "",
    until: UntilOption = "",
    seed: SeedOption = None,
    database: DatabaseOption = "",
) -> None:
    """Make questions of logged predictions, as 'slipway labels choose' chooses them.

    Rows that are questions already stay as they are. Choose each hour of the log once: the
    probabilities are those of one choice. Of a pipeline with several heads, or with a key of the
    split that is no input, 'slipway labels learn' cannot add rows: --audit-ratio 1 asks about rows
    that measure the model.

    [bold]Examples[/]

    [cyan]$ slipway labels harvest digits --budget 50 --people 3[/]
    """
    require("components", "serving")
    from cli.labels.harvesting import asked_before, check_learnable, topic_of, with_inputs
    from serving.labels.store.exchange import batches_asked
    from serving.labels.store.questions import add_questions

    layout, config = pipeline_of(name)
    wish = wish_of(config, by, head, (budget, per_class, audit, alike), period_of(since, until))
    if audit < 1:
        check_learnable(config, wish.head)
    store = open_database(database)
    batches = batches_asked(store, config.name, wish.head)
    wish = replace(wish, asked=asked_before(store, config, wish.head, batches))
    found = with_inputs(layout, chosen(layout, config, wish, seed))
    added, known = add_questions(store, topic_of(config, wish.head), found, people)
    say(f"{added:,} new questions, {known:,} known already; 'slipway labels serve' asks them")


def gold(
    name: NameArgument,
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="CSV with request_id, row and label, the right one."),
    ],
    head: HeadOption = "",
    database: DatabaseOption = "",
) -> None:
    """Hide rows whose label is known among the questions: they tell who labels rightly.

    Everybody is asked them. The rows' inputs must be in the prediction log.

    [bold]Examples[/]

    [cyan]$ slipway labels gold digits known.csv[/]
    """
    require("components", "serving")
    from cli.labels.answer_files import read_gold
    from cli.labels.harvesting import gold_questions, topic_of
    from components.labels.choosing.questions import head_to_ask
    from serving.labels.store.questions import add_questions

    layout, config = pipeline_of(name)
    asked = head_to_ask(config, head)
    known = read_gold(file, config.heads[asked].classes)
    topic = topic_of(config, asked)
    found = [*gold_questions(layout, topic, known)]
    added, before = add_questions(open_database(database), topic, found, people=1)
    absent = len(known) - len(found)
    say(
        f"{added:,} new gold questions, {before:,} rows are questions already, {absent:,} are not "
        "in the prediction log with their inputs"
    )


def export(
    name: NameArgument,
    kind: ExportOption = "csv",
    head: HeadOption = "",
    out: OutOption = None,
    database: DatabaseOption = "",
) -> None:
    """Write people's answers: as CSV for 'slipway labels consensus', or questions and answers as
    Label Studio's JSON; or what has turned out to be true, as CSV for 'slipway judge labels' and
    'slipway labels add'.

    [bold]Examples[/]

    [cyan]$ slipway labels export digits --out answers.csv[/]

    [cyan]$ slipway labels export digits --format label-studio --out tasks.json[/]

    [cyan]$ slipway labels export digits --format truth --out truth.csv[/]
    """
    require("serving")
    import json

    from cli.labels.answer_files import as_csv
    from cli.labels.label_studio import as_tasks
    from serving.labels.store.answering import answers
    from serving.labels.store.exchange import stored_questions
    from serving.labels.store.questions import topic_id

    _check_format(kind, "truth")
    store = open_database(database)
    number, topic = topic_id(store, name, head)
    if kind == "truth":
        _write_truths(name, (number, topic.head), store, out)
        return
    said = [*answers(store, number)]
    if kind == "csv":
        write_out(as_csv(said), out)
    else:
        tasks = as_tasks(stored_questions(store, number), said)
        write_out(json.dumps(tasks, indent=1, ensure_ascii=False) + "\n", out)
    people = len({one.labeller for one in said})
    say(f"{len(said):,} answers by {people:,} people{f': {escape(str(out))}' if out else ''}")


def learn(
    name: NameArgument,
    people: Annotated[
        int, typer.Option(min=1, help="Rows that fewer people have answered are left out.")
    ] = 2,
    min_confidence: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Labels that are less sure are left out.")
    ] = 0.9,
    head: HeadOption = "",
    database: DatabaseOption = "",
    is_json: JsonOption = False,
) -> None:
    """Add what people have agreed on as labelled rows, and announce them: Airflow then starts a
    run.

    Audit and gold rows are left out: they measure. A row that was added before is not added again;
    one whose label has changed is corrected. A pipeline with a weight column gets weights in
    proportion to one over the probability of each row's choice, 1 on average over a harvest.

    [bold]Examples[/]

    [cyan]$ slipway labels learn digits[/]
    """
    require("components", "serving")
    from tempfile import TemporaryDirectory

    from cli.labels.harvesting import check_learnable, kept_inputs
    from cli.labels.learning import as_csv, in_words, settled_with_models, to_learn, weights_of
    from components.labels.labelled_files import LabelFile
    from serving.labels.store.answering import answers
    from serving.labels.store.exchange import stored_questions
    from serving.labels.store.questions import topic_id
    from serving.labels.store.standing import gold_results

    layout, config = pipeline_of(name)
    store = open_database(database)
    number, topic = topic_id(store, name, head)
    check_learnable(config, topic.head)
    said = [*answers(store, number)]
    found = settled_with_models(said, stored_questions(store, number), topic.classes)
    weights = weights_of(stored_questions(store, number))
    learned = to_learn(found, weights, min_confidence, people)
    for words in in_words(found, gold_results(store, number)):
        say(f"  {escape(words)}")
    say(f"{len(learned):,} of {len(found.labels):,} rows to learn from")
    if not learned:
        return
    with TemporaryDirectory() as folder:
        file = Path(folder) / "consensus.csv"
        text = as_csv(learned, config.label_column(topic.head), config.weight)
        file.write_text(text, encoding="utf-8")
        author = f"consensus of {len(found.people):,} people"
        kept = kept_inputs(stored_questions(store, number), {one.place for one in learned})
        add_file(layout, config, LabelFile(file, kept, is_consensus=True), author, is_json)


def import_answers(
    name: NameArgument,
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="CSV with request_id, row, labeller and label, or Label Studio's JSON.",
        ),
    ],
    kind: FormatOption = "csv",
    head: HeadOption = "",
    database: DatabaseOption = "",
) -> None:
    """Take answers that people gave elsewhere to questions that are here.

    [bold]Examples[/]

    [cyan]$ slipway labels import digits annotated.json --format label-studio[/]
    """
    require("components", "serving")
    from cli.labels.answer_files import read_csv
    from cli.labels.label_studio import read_tasks
    from serving.labels.store.exchange import import_answers as take
    from serving.labels.store.questions import topic_id

    _check_format(kind)
    store = open_database(database)
    topic = topic_id(store, name, head)
    said = read_csv(file) if kind == "csv" else read_tasks(file)
    done = take(store, topic, said, time.time())
    say(f"{done.added:,} answers, {done.known:,} known already, {len(done.refused):,} refused")
    for words in done.refused[:_SHOWN_REFUSALS]:
        say(f"  {escape(words)}")


def _write_truths(name: str, about: tuple[int, str], store: "Database", out: Path | None) -> None:
    from cli.labels.answer_files import truths_as_csv
    from serving.labels.store.truths import told

    _, config = pipeline_of(name)
    found = [*told(store, about[0])]
    write_out(truths_as_csv(found, config.label_column(about[1])), out)
    say(f"{len(found):,} labels{f': {escape(str(out))}' if out else ''}")


def _url(database: str) -> str:
    from contract.loader import own_state_folder
    from serving.labels.store.database import sqlite_url

    return database or sqlite_url(own_state_folder() / "labels.db")


def open_database(database: str) -> "Database":
    """Return the database of an option."""
    from serving.labels.store.database import Database

    return Database(_url(database))


def _check_format(kind: str, *more: str) -> None:
    known = ("csv", "label-studio", *more)
    if kind not in known:
        raise UserError(f"--format {kind}: expected {' or '.join(known)}")

"""Writes the reference pages: `python docs/make_reference.py FOLDER`.

Everything in them comes from the code: keys, types, defaults and descriptions from the config's
models, records from `contract.records`, commands from the command line, calls from the docstrings
of `slipway`.
"""

import importlib
import inspect
import json
import pkgutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from rich.text import Text

PageOf = Callable[[str], str]  # where the section of a name is; "" on the same page

_MADE = "<!-- made by docs/make_reference.py; do not edit -->\n"


def main() -> None:
    """Write all pages into the folder that the command line names."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, lines in pages().items():
        (folder / f"{name}.md").write_text(_MADE + "\n".join(lines) + "\n", encoding="utf-8")


def pages() -> dict[str, list[str]]:
    """Return the lines of each page by its name."""
    from contract.schema.pipeline import PipelineConfig
    from contract.schema.runtime import RuntimeConfig

    return {
        "pipeline": list(config_page("pipeline.yaml", PipelineConfig)),
        "runtime": list(config_page("Runtime files", RuntimeConfig)),
        "records": list(records_page()),
        "commands": list(commands_page()),
        "python": list(python_page()),
    }


# --- config -------------------------------------------------------------------------------------


def config_page(title: str, model: type[BaseModel]) -> Iterator[str]:
    """Yield a section per object of the config's JSON Schema, each key with all that is known."""
    schema = model.model_json_schema()
    yield f"# {title}"
    yield ""
    yield "Every key, with its type, range, default and meaning."
    yield from _section(model.__name__, schema)
    for name, part in schema.get("$defs", {}).items():
        if "properties" in part:
            yield from _section(name, part)


def _section(name: str, part: dict[str, Any]) -> Iterator[str]:
    yield from ("", f"## {name}", "")
    yield " ".join(part.get("description", "").split())
    yield ""
    yield "| Key | Type | Default | Meaning |"
    yield "|---|---|---|---|"
    required = part.get("required", ())
    for key, field in part["properties"].items():
        default = "required" if key in required else _default(field)
        meaning = " ".join(field.get("description", "").split())
        yield f"| `{key}` | {_type(field)} | {default} | {_cell(meaning)} |"


def _same_page(_name: str) -> str:
    return ""


def _type(field: dict[str, Any], page_of: PageOf = _same_page) -> str:
    """Return a JSON Schema as a reader of YAML would say it."""
    if "$ref" in field:
        name = field["$ref"].rpartition("/")[2]
        return f"[{name}]({page_of(name)}#{name.lower()})"
    choices = field.get("anyOf") or field.get("oneOf") or field.get("allOf")
    if choices:
        return " or ".join(dict.fromkeys(_type(one, page_of) for one in choices))
    if "const" in field or "enum" in field:
        return ", ".join(f"`{value}`" for value in field.get("enum", [field.get("const")]))
    kind = str(field.get("type", "anything"))
    if kind == "array":
        items = field.get("items") or next(iter(field.get("prefixItems", ())), {})
        return f"list of {_type(items, page_of)}"
    if kind == "object" and isinstance(field.get("additionalProperties"), dict):
        return f"object of {_type(field['additionalProperties'], page_of)}"
    if field.get("format") == "date-time":
        return "time"
    return kind + _range(field)


def _range(field: dict[str, Any]) -> str:
    limits = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    told = [f"{sign} {field[key]:g}" for key, sign in limits.items() if key in field]
    if "pattern" in field:
        told.append(f"as `{_cell(field['pattern'])}`")
    return f" {', '.join(told)}" if told else ""


def _default(field: dict[str, Any]) -> str:
    if isinstance(field.get("default"), dict) and field["default"]:
        return "as below"
    return (
        f"`{_cell(json.dumps(field['default'], ensure_ascii=False))}`" if "default" in field else ""
    )


# --- records ------------------------------------------------------------------------------------


def records_page() -> Iterator[str]:
    """Yield a section per record, by the module that it is in, each field with its meaning."""
    from contract.records.record import Record

    yield from (
        "# Records",
        "",
        "Documents that steps, the serving agent and the command line leave on storage, as JSON. "
        "Each has `record_version`, the form of the document: a later Slipway reads all earlier "
        "forms, and an earlier one refuses a later form. Keys that a version does not know are "
        "ignored.",
    )
    rooms = list(record_rooms())
    names = {record.__name__ for _, records in rooms for record in records}
    for title, records in rooms:
        yield from ("", f"## {title}")
        for record in records:
            yield from _record(record, lambda name: "" if name in names else "pipeline.md")
    assert Record.model_fields.keys() == {"record_version"}  # what the first paragraph says


def record_rooms() -> Iterator[tuple[str, list[Any]]]:
    """Yield what each module of `contract.records` is about, and its records."""
    import contract.records
    from contract.records.record import Record

    for found in pkgutil.iter_modules(contract.records.__path__):
        module = importlib.import_module(f"contract.records.{found.name}")
        records = [
            one
            for one in vars(module).values()
            if inspect.isclass(one)
            and issubclass(one, Record)
            and one is not Record
            and one.__module__ == module.__name__
        ]
        yield (inspect.getdoc(module) or "").partition("\n")[0].rstrip("."), records


def _record(record: Any, page_of: PageOf) -> Iterator[str]:
    schema = record.model_json_schema()
    yield from ("", f"### {record.__name__}", "", inspect.getdoc(record) or "", "")
    yield from (f"Version {record.current_version}.", "")
    yield from ("| Field | Type | Default | Meaning |", "|---|---|---|---|")
    required = schema.get("required", ())
    for name, field in schema["properties"].items():
        if name != "record_version":
            default = "required" if name in required else _default(field)
            meaning = _cell(" ".join(field.get("description", "").split()))
            yield f"| `{name}` | {_type(field, page_of)} | {default} | {meaning} |"


# --- commands -----------------------------------------------------------------------------------


def commands_page() -> Iterator[str]:
    """Yield a section per command, with its arguments, options and examples."""
    import typer.main

    from cli.main import app

    yield from (
        "# Commands",
        "",
        "`slipway --help`, and `--help` behind each command, say the same.",
    )
    yield from _commands("slipway", typer.main.get_command(app))


def _commands(path: str, command: Any) -> Iterator[str]:
    if hasattr(command, "commands"):
        for name, one in command.commands.items():
            yield from _commands(f"{path} {name}", one)
        return
    yield from ("", f"## {path}", "")
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        text = Text.from_markup(paragraph).plain
        yield f"    {text}" if text.startswith("$ ") else text
        yield ""
    yield from ("| Argument or option | Default | Meaning |", "|---|---|---|")
    for parameter in (one for one in command.params if not getattr(one, "hidden", False)):
        names = ", ".join(f"`{n}`" for n in [*parameter.opts, *parameter.secondary_opts])
        if parameter.param_type_name == "argument":
            names = f"`{parameter.metavar or parameter.name.upper()}`"
        default = parameter.default
        shown = (
            "required" if parameter.required else "" if default in (None, False, "") else default
        )
        yield f"| {names} | {shown} | {_cell(getattr(parameter, 'help', '') or '')} |"


# --- Python -------------------------------------------------------------------------------------


def python_page() -> Iterator[str]:
    """Yield a section per public class of `slipway`, with its members' docstrings."""
    import slipway

    yield from ("# Python", "", inspect.getdoc(slipway) or "")
    yield from ("", "## connect", "", *_member("connect", slipway.connect))
    for name in ("Slipway", "Pipeline", "Check", "Run", "Version", "Report"):
        known = getattr(slipway, name)
        yield from ("", f"## {name}", "", inspect.getdoc(known) or "", "")
        for member, value in vars(known).items():
            if not member.startswith("_") and (callable(value) or isinstance(value, property)):
                yield from (f"### {name}.{member}", "", *_member(member, value))


def _member(name: str, value: Any) -> Iterator[str]:
    if not isinstance(value, property):
        parameters = list(inspect.signature(value).parameters.values())
        shown = ", ".join(str(one).partition(":")[0] for one in parameters if one.name != "self")
        yield from ("```python", f"{name}({shown})", "```", "")
    yield from ("```text", inspect.getdoc(value) or "", "```", "")


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    main()

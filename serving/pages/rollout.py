"""The page of a rollout: what its controller knows, as HTML that keeps itself up to date.

It is made here and not in the browser: it works without scripts, and one place escapes all texts.
The script asks for the page again every two seconds and exchanges the part that changes.
"""

import base64
import hashlib
from collections.abc import Iterator, Sequence
from datetime import datetime
from html import escape

from contract.records.rollout import Rollout, RolloutEvent, RolloutTest
from serving.pages.timeline import timeline

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --bar: #3b82f6; --bad: #dc2626; --good: #16a34a; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; padding: 1rem; max-width: 60rem; }
h1 { font-size: 1.4rem; margin: 0; } h2 { font-size: 1.1rem; margin: 1.5rem 0 .5rem; }
p { margin: .4rem 0; overflow-wrap: anywhere; } .dim { opacity: .7; }
.state { border-radius: 1rem; padding: .1rem .7rem; border: 1px solid; white-space: nowrap; }
.bad { color: var(--bad); } .good { color: var(--good); } .hold { color: #b45309; }
.wide { overflow-x: auto; } table { border-collapse: collapse; width: 100%; }
th, td { text-align: right; padding: .25rem .6rem; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; } td { font-variant-numeric: tabular-nums; }
meter { width: 7rem; height: .9rem; } svg { width: 100%; height: auto; }
ol { padding-left: 1.6rem; } code { overflow-wrap: anywhere; }
@media (max-width: 40rem) {
  table { font-size: .8rem; } th, td { padding: .2rem; } meter { width: 4rem; }
}
"""
_SCRIPT = """
async function refresh() {
  try {
    const answer = await fetch(location.href, { cache: "no-store" });
    if (answer.ok) {
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      document.querySelector("main").replaceWith(fresh.querySelector("main"));
      document.title = fresh.title;
    }
    document.body.classList.toggle("dim", !answer.ok);
  } catch { document.body.classList.add("dim"); }
  setTimeout(refresh, 2000);
}
setTimeout(refresh, 2000);
"""


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


# Nothing but this very style and script is applied, whatever a text on the page says.
HEADERS = {
    "content-security-policy": (
        f"default-src 'none'; style-src {_hash(_STYLE)}; script-src {_hash(_SCRIPT)}; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "cache-control": "no-store",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


def rollout_page(rollout: Rollout, now: datetime) -> str:
    """Return the page of a rollout."""
    title = f"{rollout.pipeline}: version {rollout.version}, {rollout.phase}, {rollout.state}"
    return _page(title, "".join(_parts(rollout, now)))


def empty_page(pipeline: str) -> str:
    """Return the page of a pipeline that has had no rollout yet."""
    return _page(pipeline, f"<h1>{escape(pipeline)}</h1><p>No version has been tried here yet.</p>")


def overview_page(pipelines: list[str]) -> str:
    """Return a page with a link for each pipeline."""
    links = "".join(f'<li><a href="{escape(p)}">{escape(p)}</a></li>' for p in pipelines)
    return _page("Rollouts", f"<h1>Rollouts</h1><ul>{links or '<li>no pipeline</li>'}</ul>")


def _page(title: str, body: str) -> str:
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>"
        f"<body><main>{body}</main><script>{_SCRIPT}</script></body></html>"
    )


def _parts(rollout: Rollout, now: datetime) -> Iterator[str]:
    kind = _kind(rollout)
    yield (
        f"<h1>{escape(rollout.pipeline)}: version {rollout.version} against version "
        f'{rollout.champion}</h1><p><span class="state {kind}">{escape(rollout.state)}</span> '
        f'{escape(rollout.phase)} <span class="dim">way: {escape(rollout.way)} · '
        f"{escape(rollout.author)}</span></p>"
    )
    yield from (f'<p class="hold">{escape(text)}</p>' for text in _warnings(rollout, now))
    yield f"<p>{escape(rollout.reason)}</p>"
    if not rollout.is_over:
        yield f"<p>{escape(rollout.time_to_go)}</p>"
    yield f"<h2>Traffic</h2>{_arms(rollout)}"
    yield f"<h2>Evidence</h2>{_tests(rollout)}"
    yield f"<h2>The way so far</h2>{timeline(rollout, now)}{_events(rollout)}"
    yield (
        '<p class="dim">Last look: '
        f"{rollout.looked_at:%Y-%m-%d %H:%M:%S} UTC. To act: <code>slipway rollout "
        f"{escape(rollout.pipeline)} --pause</code>, <code>--resume</code>, <code>--abort</code>, "
        "<code>--approve</code>.</p>"
    )


def _kind(rollout: Rollout) -> str:
    kinds = {"passed": "good", "promoted": "good", "rolled back": "bad", "paused": "hold"}
    return kinds.get(rollout.state, "")


def _warnings(rollout: Rollout, now: datetime) -> Iterator[str]:
    if rollout.hold is not None:
        reason = f": {rollout.hold.reason}" if rollout.hold.reason else ""
        yield (
            f"Paused by {rollout.hold.author or 'somebody'}{reason}. Nothing passes; failing "
            "evidence still rolls back."
        )
    if rollout.is_silent(now):
        silent = (now - rollout.looked_at).total_seconds()
        yield f"Its controller has not looked for {silent:,.0f} s; a retry continues the trial."
    yield from rollout.problems


def _arms(rollout: Rollout) -> str:
    rows = [
        (
            f"{name} {arm.version}",
            f"{arm.weight_percent} %",
            *(f"{n:,}" for n in (arm.requests, arm.errors, arm.client_errors, arm.active)),
            f"{arm.p95_ms:.1f} ms" if arm.timed else "",
        )
        for name, arm in (("canary", rollout.canary), ("stable", rollout.stable))
    ]
    return _table(("Arm", "Weight", "Requests", "5xx", "4xx", "Under way", "p95"), rows)


def _tests(rollout: Rollout) -> str:
    heads = ("Test", "n canary", "n stable", "Against: rolls back at", "For: passes at", "Missing")
    rows = [
        (
            escape(test.name),
            f"{test.canary_events:,}" if test.canary_events else "",
            f"{test.stable_events:,}" if test.stable_events else "",
            _gauge(test.against, test.fails_at, 'optimum="0" low="0.1" high="0.5"'),
            _gauge(test.in_favour, test.passes_at, 'optimum="1"'),
            _missing(test),
        )
        for test in rollout.tests
    ]
    return _table(heads, rows)


def _gauge(value: float | None, bound: float | None, kind: str) -> str:
    if value is None or bound is None:
        return ""
    share = min(1.0, value / bound) if bound else 1.0
    words = f"{_number(value)} of {_number(bound)}"
    return f'<meter value="{share:.4f}" {kind}>{words}</meter><br>{words}'


def _missing(test: RolloutTest) -> str:
    if test.has_agreed is None:
        return ""
    if test.has_agreed:
        return '<span class="good">agrees</span>'
    return f"{test.missing:,} requests" if test.missing else "open"


def _events(rollout: Rollout) -> str:
    lines = "".join(f"<li>{_event(event)}</li>" for event in reversed(rollout.events[-20:]))
    return f'<ol reversed class="dim">{lines}</ol>'


def _event(event: RolloutEvent) -> str:
    words = f": {escape(event.words)}" if event.words else ""
    return f"{event.at:%H:%M:%S} {escape(event.phase)} {event.kind}{words}"


def _table(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """Return a table; the cells are HTML."""
    head = "".join(f"<th>{text}</th>" for text in heads)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="wide"><table><tr>{head}</tr>{body}</table></div>'


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:.4g}"

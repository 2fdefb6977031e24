"""The weights over time as an SVG picture, with marks where something was decided."""

from datetime import datetime
from html import escape
from itertools import pairwise

from contract.records.rollout import Rollout, RolloutEvent

_WIDTH, _HEIGHT = 900, 200
_LEFT, _RIGHT, _TOP, _BOTTOM = 45, 10, 12, 24
_BAD = "#dc2626"
_COLOURS = {
    "passed": "#16a34a",
    "paused": "#b45309",
    "resumed": "#3b82f6",
    "withdrawn": _BAD,
    "died": _BAD,
    "ended": "#64748b",
}


def timeline(rollout: Rollout, now: datetime) -> str:
    """Return the canary's share of the traffic over time; nothing before the first event."""
    if not rollout.events:
        return ""
    until = rollout.looked_at if rollout.is_over else max(now, rollout.looked_at)
    first = rollout.events[0].at
    span = max((until - first).total_seconds(), 1.0)

    def x(at: datetime) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (at - first).total_seconds() / span

    steps = [f"M {x(first):.1f} {_y(rollout.events[0].weight_percent):.1f}"]
    for before, event in pairwise(rollout.events):
        steps.append(f"H {x(event.at):.1f}")
        if event.weight_percent != before.weight_percent:
            steps.append(f"V {_y(event.weight_percent):.1f}")
    steps.append(f"H {x(until):.1f}")
    colours = {**_COLOURS, "ended": _BAD} if rollout.state == "rolled back" else _COLOURS
    marks = "".join(
        _mark(event, x(event.at), colours[event.kind])
        for event in rollout.events
        if event.kind in colours
    )
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="share of the canary over '
        f'time">{_grid(span)}<path d="{" ".join(steps)}" fill="none" stroke="#3b82f6" '
        f'stroke-width="2.5"/>{marks}</svg>'
    )


def _y(percent: float) -> float:
    return _TOP + (_HEIGHT - _TOP - _BOTTOM) * (1 - percent / 100)


def _grid(span: float) -> str:
    lines = [
        f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{_y(p):.1f}" y2="{_y(p):.1f}" '
        f'stroke="#8884"/><text x="{_LEFT - 6}" y="{_y(p) + 4:.1f}" text-anchor="end" '
        f'font-size="12" fill="currentColor">{p} %</text>'
        for p in (0, 25, 50, 75, 100)
    ]
    end = (
        f'<text x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 6}" text-anchor="end" font-size="12" '
        f'fill="currentColor">{span:,.0f} s</text>'
    )
    return "".join(lines) + end


def _mark(event: RolloutEvent, x: float, colour: str) -> str:
    title = escape(f"{event.at:%H:%M:%S} {event.phase} {event.kind}: {event.words}")
    return (
        f'<circle cx="{x:.1f}" cy="{_y(event.weight_percent):.1f}" r="5" fill="{colour}">'
        f"<title>{title}</title></circle>"
    )

"""The picture of a rollout: the weights over time, with what was decided where."""

from typing import TYPE_CHECKING

from contract.records.rollout import Rollout, RolloutEvent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = {
    "passed": "tab:green",
    "paused": "tab:orange",
    "resumed": "tab:blue",
    "withdrawn": "tab:red",
    "died": "tab:red",
    "ended": "gray",
}
_MOST_CHARACTERS = 40  # of a decision's words


def draw(rollout: Rollout) -> "Figure":
    """Return the canary's and stable's share of the traffic over the seconds of the trial."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.5), layout="constrained")
    axes = figure.subplots()
    seconds, weights = weights_over_time(rollout)
    axes.step(seconds, weights, where="post", label=f"canary, version {rollout.version}")
    stable = [100 - weight for weight in weights]
    label = f"stable, version {rollout.champion}"
    axes.step(seconds, stable, where="post", linestyle=":", label=label)
    for event in rollout.events:
        _mark(axes, event, _seconds(rollout, event))
    axes.set(xlabel="seconds", ylabel="share of the traffic, percent", ylim=(-4, 125))
    axes.margins(x=0.12)  # room for the words of the first and the last event
    axes.set_title(f"{rollout.pipeline}, version {rollout.version}: {rollout.state}")
    axes.legend(loc="center left")
    return figure


def weights_over_time(rollout: Rollout) -> tuple[list[float], list[int]]:
    """Return when the canary's share changed, in seconds, and to what, up to the last look."""
    changes = [(_seconds(rollout, event), event.weight_percent) for event in rollout.events]
    if changes:
        until = (rollout.looked_at - rollout.events[0].at).total_seconds()
        changes.append((max(until, changes[-1][0]), changes[-1][1]))
    return [at for at, _ in changes], [weight for _, weight in changes]


def _seconds(rollout: Rollout, event: RolloutEvent) -> float:
    return (event.at - rollout.events[0].at).total_seconds()


def _mark(axes: "Axes", event: RolloutEvent, at: float) -> None:
    if event.kind == "entered":
        return
    colour = _COLOURS[event.kind]
    axes.plot([at], [event.weight_percent], "o", color=colour)
    words = event.words if event.kind in ("paused", "withdrawn", "died", "ended") else event.phase
    text = f"{event.kind}: {words}"
    if len(text) > _MOST_CHARACTERS:
        text = f"{text[:_MOST_CHARACTERS]} …"
    label = axes.text(at, event.weight_percent + 3, text, color=colour, fontsize=8, rotation=12)
    label.set_parse_math(False)
    if event.kind == "ended":  # at the same moment as the last decision
        label.set(ha="right", y=event.weight_percent + 8, rotation=0)

"""What a sweep says of its jobs on the console."""

from __future__ import annotations

from collections.abc import Collection

from launchers.search.settings import SweepSettings
from launchers.search.trials import Trial, TrialState


def price_text(validations: int, trials: Collection[Trial]) -> str:
    """What so many validations cost, by what those of the sweep have cost."""
    done = max(1, sum(len(trial.reports) for trial in trials))
    dollars, seconds = sum(t.cost for t in trials), sum(t.seconds for t in trials)
    text = f"about {validations * seconds / done / 60:.1f} min"
    return f"{text} and ${validations * dollars / done:.2f}" if dollars else text


def said_finished(trial: Trial, trials: Collection[Trial], settings: SweepSettings) -> str:
    """One line for a job that ran to its end: its value, and where it stands."""
    ended = sum(1 for other in trials if other.state.ended)
    words = [f"{trial.seconds / 60:.1f} min", *([f"${trial.cost:.2f}"] if trial.cost else [])]
    if trial.value is not None:
        whole = [t.value for t in trials if t.state is TrialState.finished and t.value is not None]
        best = max(whole, key=lambda value: settings.better * value)
        place = "the best so far" if trial.value == best else f"best so far {best:.4g}"
        words.insert(0, f"{settings.metric or 'value'} {trial.value:.4g} ({place})")
    total = f" of {len(trials)}" if not settings.searches else ""
    return f"job {trial.number} finished: {', '.join(words)}; {ended}{total} job(s) ended."

"""Where the points of a sweep come from: a list, or an Optuna study that is rebuilt from the trials at each start."""

from __future__ import annotations

import hashlib
import logging
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from launchers.errors import MendInput
from launchers.search.settings import Sampler, SweepSettings
from launchers.search.space import Choice, Interval, Space, plain

if TYPE_CHECKING:
    import optuna

Params = Mapping[str, str]
LEAST_POINTS = 10
"""Below this many points an importance would be noise."""


class Points(Protocol):
    """Asked under the sweep's lock, with ascending numbers."""

    total: int
    """How many there are at most."""

    def ask(self, number: int) -> dict[str, str]:
        """The point of this number."""

    def tell(self, number: int, value: float | None, params: Params) -> None:
        """What a point was worth; None where it failed."""

    def restore(self, number: int, params: Params | None, value: float | None, ended: bool) -> None:
        """A point of an earlier start; called once per number in ascending order. Without parameters: one that is lost."""


class ListedPoints:
    """A grid, or any list that is known at the start."""

    def __init__(self, points: Sequence[dict[str, str]]) -> None:
        self._points = points
        self.total = len(points)

    def ask(self, number: int) -> dict[str, str]:
        return dict(self._points[number])

    def tell(self, number: int, value: float | None, params: Params) -> None:
        pass

    def restore(self, number: int, params: Params | None, value: float | None, ended: bool) -> None:
        pass


class StudyPoints:
    """Optuna by ask-and-tell, in memory: an open trial in the study for each point that runs."""

    def __init__(self, space: Space, settings: SweepSettings) -> None:
        if not space.dimensions:
            raise MendInput("A search needs at least one parameter: give it an interval or several values.")
        self.total = settings.n_trials
        self._settings = settings
        self._first: dict[str, Any] | None = None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import optuna
            from optuna.study import StudyDirection

            optuna.logging.set_verbosity(optuna.logging.WARNING)
            logging.getLogger("alembic").setLevel(logging.WARNING)
            self._space = {dimension.key: dimension for dimension in space.dimensions}
            self._distributions = {key: _distribution(dimension) for key, dimension in self._space.items()}
            self._study = optuna.create_study(
                direction=StudyDirection[settings.direction.upper()], sampler=self._sampler(0)
            )

    def begin_with(self, values: Mapping[str, Any]) -> bool:
        """Let the first point be this one, as far as the space holds it; whether it does."""
        found = {key: _in(dimension, values.get(key.lstrip("+"))) for key, dimension in self._space.items()}
        if any(value is None for value in found.values()):
            return False
        self._first = found
        return True

    def ask(self, number: int) -> dict[str, str]:
        if number == 0 and self._first is not None:
            self._study.enqueue_trial(self._first)
        if self._settings.sampler != Sampler.cmaes:  # which keeps its state in the sampler
            self._study.sampler = self._sampler(number)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trial = self._study.ask(self._distributions)
        assert trial.number == number, f"point {number} is trial {trial.number} of the study"
        return {key: self._text(key, value) for key, value in trial.params.items()}

    def tell(self, number: int, value: float | None, params: Params) -> None:
        from optuna.trial import TrialState

        state = TrialState.FAIL if value is None else TrialState.COMPLETE
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._study.tell(number, value, state=state, skip_if_finished=True)

    def restore(self, number: int, params: Params | None, value: float | None, ended: bool) -> None:
        from optuna.trial import TrialState, create_trial

        failed = params is None or (ended and value is None)
        state = TrialState.FAIL if failed else TrialState.COMPLETE if ended else TrialState.RUNNING
        known = {} if params is None else {key: self._value(key, params[key]) for key in self._space if key in params}
        distributions = {key: self._distributions[key] for key in known}
        self._study.add_trial(
            create_trial(
                state=state,
                value=value if state is TrialState.COMPLETE else None,
                params=known,
                distributions=distributions,
            )
        )

    def importance(self) -> dict[str, float]:
        """Share of each parameter in what the values of the told points differ by."""
        from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # no scikit-learn, and fast: Watanabe et al. 2023, arXiv 2304.10255
            found = get_param_importances(self._study, evaluator=PedAnovaImportanceEvaluator())
        return dict(found)

    def _sampler(self, number: int) -> optuna.samplers.BaseSampler:
        """A sampler whose draws depend on seed and number alone: a search that is continued does not draw the same again."""
        import optuna

        # not their sum: two searches with neighboring seeds would draw the same points, one number later
        digest = hashlib.sha256(f"{self._settings.sampler_seed}/{number}".encode()).digest()
        seed = int.from_bytes(digest[:4], "big")
        if self._settings.sampler == Sampler.random:
            return optuna.samplers.RandomSampler(seed=seed)
        if self._settings.sampler == Sampler.cmaes:
            return optuna.samplers.CmaEsSampler(seed=seed, warn_independent_sampling=False)
        return optuna.samplers.TPESampler(seed=seed, constant_liar=True)

    def _text(self, key: str, value: Any) -> str:
        dimension = self._space[key]
        return dimension.text(value) if isinstance(dimension, Interval) else str(value)

    def _value(self, key: str, text: str) -> Any:
        dimension = self._space[key]
        if isinstance(dimension, Choice):
            return text
        return int(text) if dimension.whole else float(text)


def _in(dimension: Choice | Interval, value: Any) -> Any:
    """A config's value as the study has it; None where the dimension does not hold it."""
    if isinstance(dimension, Choice):
        return next((text for text in dimension.values if plain(text) == value or text == str(value)), None)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number and dimension.low <= value <= dimension.high else None


def _distribution(dimension: Choice | Interval) -> optuna.distributions.BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(dimension, Choice):
        return CategoricalDistribution(dimension.values)
    if dimension.whole:
        return IntDistribution(int(dimension.low), int(dimension.high), log=dimension.log)
    return FloatDistribution(dimension.low, dimension.high, log=dimension.log)


def importance(
    points: Sequence[tuple[Params, float]], space: Space, settings: SweepSettings
) -> dict[str, float] | None:
    """Share of each parameter in what the values differ by (Optuna's); None below ten points, where it would be noise."""
    if len(points) < LEAST_POINTS or len({value for _, value in points}) < 2:
        return None
    study = StudyPoints(space, settings)
    for number, (params, value) in enumerate(points):
        study.restore(number, params, value, ended=True)
    return study.importance()

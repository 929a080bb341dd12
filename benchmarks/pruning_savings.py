"""What pruning saves: validations that a search buys, and the best value that it finds, on synthetic learning curves.

    PYTHONPATH=. python benchmarks/pruning_savings.py [--seeds 20] [--trials 27] [--budget 120]

A curve rises towards a plateau that depends on the point (a bowl in two parameters), at a rate of its own and with noise; a whole
job has nine validations. The same points are searched without pruning, with successive halving, and with pauses (asha), by the
sweep's own code. Prints one JSON line per pruner: the share of validations that were not bought, and the mean best value as a
share of what the search without pruning finds. With `--budget` each way buys that many validations instead, and the best value is
compared: random, tpe, and asha with random points.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import tempfile
from pathlib import Path

from launchers.search.fingerprint import Fingerprint
from launchers.search.points import StudyPoints
from launchers.search.settings import SweepSettings
from launchers.search.space import read_space
from launchers.search.sweep import Prepared, Sweep
from launchers.search.trials import KeptInMemory, TrialState

WHOLE = 9
SPACE = read_space({}, ["a=interval(0.0,1.0)", "b=interval(0.0,1.0)"])


def curve(point: dict[str, str], seed: int) -> list[float]:
    """Values at the validations of a whole job."""
    draws = random.Random(f"{seed} {sorted(point.items())}")
    a, b = float(point["a"]), float(point["b"])
    plateau = 30 - 40 * ((a - 0.3) ** 2 + (b - 0.7) ** 2)
    rate = draws.uniform(0.4, 0.9)
    return [plateau * (1 - math.exp(-rate * n)) + draws.gauss(0, 0.3) for n in range(1, WHOLE + 1)]


def search(
    pruner: str, seed: int, trials: int, folder: Path, *, sampler: str = "random", budget: int | None = None
) -> tuple[int, float]:
    """Validations bought, and the best value of a job that ran to its end; a budget ends the job in hand."""
    settings = SweepSettings(
        sampler=sampler, direction="maximize", n_trials=trials, pruner=pruner, sampler_seed=1000 * seed
    )

    def prepare(params: dict[str, str], seed: int | None) -> Prepared[dict[str, str]]:
        return Prepared(Fingerprint(str(sorted(params.items())), "", ""), params, ())

    sweep = Sweep(
        str(folder), settings, StudyPoints(SPACE, settings), KeptInMemory(), prepare,
        lambda number, prepared: (prepared, str(folder)),
    )  # fmt: skip
    bought = 0
    while (assigned := sweep.next()) is not None:
        number, values = assigned.trial.number, curve(assigned.prepared.job, seed)
        for step in range(len(assigned.trial.reports), WHOLE):
            if bought == budget:
                return bought, best(sweep)
            bought += 1
            if sweep.report(number, step, values[step]) and step + 1 < WHOLE:
                sweep.ended(number, TrialState.stopped)
                break
        else:
            sweep.ended(number, TrialState.finished, values[-1])
    return bought, best(sweep)


def best(sweep: Sweep[dict[str, str]]) -> float:
    """Of the jobs that ran to their end."""
    done = [t.value for t in sweep.close() if t.state is TrialState.finished and t.value is not None]
    return max(done, default=float("nan"))


def at_equal_budget(seeds: int, budget: int, folder: Path) -> None:
    """One JSON line per way."""
    for way, sampler, pruner in (("random", "random", "none"), ("tpe", "tpe", "none"), ("asha", "random", "asha")):
        values = [search(pruner, s, budget, folder, sampler=sampler, budget=budget)[1] for s in range(seeds)]
        figures = {"best": round(statistics.fmean(values), 2), "worst_best": round(min(values), 2)}
        print(json.dumps({"way": way, "validations": budget, **figures}), flush=True)


def main() -> None:
    import logging

    logging.disable(logging.INFO)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--trials", type=int, default=27)
    parser.add_argument("--budget", type=int)
    options = parser.parse_args()
    if options.budget is not None:
        with tempfile.TemporaryDirectory() as folder:
            at_equal_budget(options.seeds, options.budget, Path(folder))
        return
    whole: list[tuple[int, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        for pruner in ("none", "halving", "asha"):
            found = [search(pruner, seed, options.trials, Path(folder)) for seed in range(options.seeds)]
            whole = whole or found
            saved = [1 - f[0] / w[0] for f, w in zip(found, whole, strict=True)]
            share = [f[1] / w[1] for f, w in zip(found, whole, strict=True)]
            print(
                json.dumps(
                    {"pruner": pruner, "saved": round(statistics.fmean(saved), 3), "best": round(statistics.fmean(share), 4),
                     "worst_best": round(min(share), 4)}
                )
            )  # fmt: skip


if __name__ == "__main__":
    main()

"""Do the tests notice a small fault? Plants some, one at a time, and runs the tests of the module on each.

    python benchmarks/mutation.py                                     # every module of the table, 12 faults each
    python benchmarks/mutation.py --modules ledger,sync --each 30 --seed 7
    python benchmarks/mutation.py --modules watchdog --all

A fault is one changed operator, constant, condition, argument or statement. Which ones are planted is drawn by `--seed`. Each
worker has a copy of the working tree of its own; only the fast tests of the table below run, and the first that fails is
enough. Prints each fault that no test noticed, then a table; ends with an error below `--least` percent.

Not `mutmut` or `cosmic-ray`: the first copies and rewrites the package, whose agent is shipped as source text and whose plugins
Hydra finds by path; the second changes files in place, in one tree, with one command for all modules.
"""

from __future__ import annotations

import argparse
import ast
import copy
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from queue import Queue

ROOT = Path(__file__).resolve().parents[1]
CORE, SCIENCE = "tests/launchers/", "tests/summarizer/"
LIFECYCLE = (
    "test_scheduler.py", "test_deadline_monitor.py", "test_deadlines.py", "test_reconnect.py", "test_stops.py",
    "test_reserving.py", "test_trouble_here.py", "test_contract.py", "schedules",
)  # fmt: skip
MODULES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "ledger": (("ledger/ledger.py", "ledger/jobs.py", "ledger/records.py", "ledger/transitions.py"), ("test_ledger.py", *LIFECYCLE)),
    "scheduler": (("lifecycle/scheduler.py",), LIFECYCLE),
    "running": (("lifecycle/running.py",), LIFECYCLE),
    "machines": (("capacity/machines.py", "capacity/renting.py"), LIFECYCLE),
    "anywhere": (
        ("capacity/anywhere.py", "capacity/market.py", "providers/auto/parts.py"), ("test_anywhere.py", "schedules/test_anywhere.py")
    ),
    "release": (("lifecycle/release.py",), LIFECYCLE),
    "deadlines": (("lifecycle/deadlines.py",), LIFECYCLE),
    "reconnect": (("lifecycle/reconnect.py",), LIFECYCLE),
    "sync": (("transport/sync.py",), ("test_sync.py", *LIFECYCLE)),
    "logs": (("transport/logs.py",), ("test_logs.py", *LIFECYCLE)),
    "watchdog": (("remote/watchdog.py",), ("test_watchdog.py", "test_watchdog_acts.py")),
    "agent": (("remote/agent.py",), ("test_agent.py",)),
    "vast": (("providers/vast/mapping.py",), ("test_vast_mapping.py",)),
    "plan": (("planning.py",), ("test_plan.py", "test_anywhere.py", "test_dry_run.py", *LIFECYCLE)),
    "snapshot": (("snapshot.py",), ("test_snapshot.py",)),
    "secrecy": (("secrecy.py",), ("test_secret_scan.py", "test_snapshot.py", "test_credentials.py")),
    # the science
    "figures": (
        ("summarizer/evaluation/evaluate.py", "summarizer/evaluation/scoring.py", "summarizer/evaluation/statistics.py"),
        tuple(f"{SCIENCE}evaluation/test_{name}.py" for name in ("chrf", "scoring", "scores", "evaluate")),
    ),
    "forecast": (("summarizer/forecast.py",), (f"{SCIENCE}test_forecast.py",)),
    "export": (("summarizer/export.py", "summarizer/usage.py"), (f"{SCIENCE}test_export.py", f"{SCIENCE}test_usage.py")),
    "checkpoints": (
        ("summarizer/training/checkpointing.py", "summarizer/training/checkpoint_key.py", "summarizer/training/code_version.py"),
        tuple(f"{SCIENCE}training/test_{name}.py" for name in ("continuing", "checkpoint_key")),
    ),
    "loss": (
        ("summarizer/training/module.py", "summarizer/training/exchange.py"), (f"{SCIENCE}training/test_loss.py",)
    ),
    "fields": (
        ("summarizer/fields.py", "summarizer/ranges.py"), (f"{SCIENCE}test_ranges.py", f"{SCIENCE}test_command_line.py")
    ),
}  # fmt: skip
"""Module -> its files, and the fast tests that touch it, the narrowest first; those of the core without their folders."""
SCHEDULES = "100"
"""Schedules of faults for each fault of the lifecycle, the same ones for all."""

SWAPPED: dict[type, type] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.In: ast.NotIn,
    ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div,
    ast.Div: ast.Mult, ast.FloorDiv: ast.Mult, ast.And: ast.Or, ast.Or: ast.And, ast.BitOr: ast.BitAnd, ast.BitAnd: ast.BitOr,
}  # fmt: skip
OPPOSITE = {"min": "max", "max": "min", "any": "all", "all": "any"}
SAYS = ("say", "warning", "error", "info", "debug", "print")
"""Calls whose words are for people: a changed word is no fault."""


@dataclass(frozen=True)
class Mutant:
    """One fault in one file."""

    file: str
    line: int
    before: str
    after: str
    source: str
    """Of the whole file, with the fault."""


@dataclass
class Tally:
    """What became of the faults of one module."""

    noticed: int = 0
    missed: list[Mutant] = field(default_factory=list)


def changes(node: ast.AST) -> Iterator[ast.AST]:
    """Every small fault that can be made of one node, as another node in its place."""
    new = copy.deepcopy(node)
    if isinstance(new, ast.Compare) and type(new.ops[0]) in SWAPPED:
        new.ops[0] = SWAPPED[type(new.ops[0])]()
        yield new
    elif isinstance(new, ast.BinOp | ast.BoolOp) and type(new.op) in SWAPPED:
        new.op = SWAPPED[type(new.op)]()
        yield new
    elif isinstance(new, ast.UnaryOp) and isinstance(new.op, ast.Not):
        yield new.operand
    elif isinstance(new, ast.Constant) and isinstance(new.value, bool):
        yield ast.Constant(not new.value)
    elif isinstance(new, ast.Constant) and isinstance(new.value, int | float):
        yield ast.Constant(new.value + 1)
        yield ast.Constant(new.value * 10 if new.value else -1)
    elif isinstance(new, ast.If | ast.While | ast.IfExp) and not isinstance(new.test, ast.Constant):
        new.test = ast.UnaryOp(ast.Not(), new.test)
        yield new
    elif isinstance(new, ast.Call) and isinstance(new.func, ast.Name) and new.func.id in OPPOSITE:
        new.func.id = OPPOSITE[new.func.id]
        yield new
    elif isinstance(new, ast.Return) and new.value is not None and not _is_none(new.value):
        yield ast.Return(ast.Constant(None))
    elif (
        isinstance(new, ast.Raise)
        or (isinstance(new, ast.Expr) and isinstance(new.value, ast.Call))
        or isinstance(new, ast.AugAssign)
        or (isinstance(new, ast.Assign) and not isinstance(new.targets[0], ast.Name))
    ):
        yield ast.Pass()
    elif isinstance(new, ast.Continue):
        yield ast.Break()


def _is_none(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def places(tree: ast.AST) -> Iterator[ast.AST]:
    """The nodes of code that runs: no words for people, no annotations, no imports."""
    for name, value in ast.iter_fields(tree):
        if name in ("annotation", "returns", "decorator_list"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if not isinstance(child, ast.AST) or isinstance(
                child, ast.Import | ast.ImportFrom | ast.JoinedStr | ast.Assert
            ):
                continue
            if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
                continue
            call = child.value if isinstance(child, ast.Expr) else child
            if isinstance(call, ast.Call) and getattr(call.func, "attr", getattr(call.func, "id", "")) in SAYS:
                continue
            yield child
            yield from places(child)


def mutants(file: str) -> list[Mutant]:
    """All faults that can be planted in a file."""
    text = (ROOT / file).read_text()
    lines = text.splitlines(keepends=True)
    starts = [0]
    for each in lines:
        starts.append(starts[-1] + len(each.encode()))
    raw, found = text.encode(), []
    for node in places(ast.parse(text)):
        for new in changes(node) if hasattr(node, "lineno") else ():
            start, end = starts[node.lineno - 1] + node.col_offset, starts[node.end_lineno - 1] + node.end_col_offset
            before = raw[start:end].decode()
            is_block = isinstance(node, ast.If | ast.While)
            if is_block:  # only its test, so that the lines below stay as they are
                end = starts[node.test.end_lineno - 1] + node.test.end_col_offset
                start = starts[node.test.lineno - 1] + node.test.col_offset
                before, after = raw[start:end].decode(), f"not ({raw[start:end].decode()})"
            else:
                after = ast.unparse(new)
                after = f"({after})" if isinstance(node, ast.expr) else after
            source = (raw[:start] + after.encode() + raw[end:]).decode()
            try:
                compile(source, file, "exec")
            except SyntaxError:
                continue
            found.append(Mutant(file, node.lineno, " ".join(before.split()), " ".join(after.split()), source))
    return found


def copied_tree(folder: Path) -> Path:
    """What is tracked or new here, without what is ignored."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0"):
        if name and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


def is_green(tree: Path, tests: tuple[str, ...], seconds: float) -> bool:
    """Whether all of them pass in time."""
    paths = [name for name in tests if (tree / name).exists()]
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-p", "no:randomly", *paths]
    process = subprocess.Popen(
        command, cwd=tree, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        env=os.environ | {"SCHEDULES": SCHEDULES, "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    try:
        return process.wait(seconds) == 0
    except subprocess.TimeoutExpired:  # a fault may let a test wait for ever
        os.killpg(process.pid, 9)
        process.wait()
        return False


def try_mutant(tree: Path, mutant: Mutant, tests: tuple[str, ...], seconds: float) -> bool:
    """Whether the tests notice it."""
    path = tree / mutant.file
    good = path.read_text()
    path.write_text(mutant.source)
    try:
        return not is_green(tree, tests, seconds)
    finally:
        path.write_text(good)


def try_module(name: str, options: argparse.Namespace, trees: Queue[Path], pool: ThreadPoolExecutor) -> Tally:
    files, tests = MODULES[name]
    files = tuple(file if file.startswith("summarizer/") else f"launchers/{file}" for file in files)
    tests = tuple(test if test.startswith(SCIENCE) else CORE + test for test in tests)
    every = [mutant for file in files for mutant in mutants(file)]
    draw = random.Random(f"{options.seed} {name}")
    chosen = every if options.all else draw.sample(every, min(options.each, len(every)))
    tree, began = trees.get(), time.monotonic()
    green = is_green(tree, tests, 600)
    trees.put(tree)
    if not green:
        raise SystemExit(f"The tests of {name} fail without any fault: {' '.join(tests)}.")
    seconds, tally = 30 + 5 * (time.monotonic() - began), Tally()

    def one(mutant: Mutant) -> None:
        tree = trees.get()
        try:
            if try_mutant(tree, mutant, tests, seconds):
                tally.noticed += 1
            else:
                tally.missed.append(mutant)
                print(f"not noticed: {mutant.file}:{mutant.line}: {mutant.before} -> {mutant.after}", flush=True)
        finally:
            trees.put(tree)

    list(pool.map(one, chosen))
    print(f"{name:12}{len(every):8}{len(chosen):8}{tally.noticed:9}{share(tally):7.0f} %", flush=True)
    return tally


def share(tally: Tally) -> float:
    return 100 * tally.noticed / max(tally.noticed + len(tally.missed), 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--modules", default=",".join(MODULES), help="names of the table, with commas")
    parser.add_argument("--each", type=int, default=12, help="faults for each module")
    parser.add_argument("--all", action="store_true", help="every fault that can be planted")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--least", type=float, default=0.0, help="percent noticed, over all modules")
    options = parser.parse_args()
    names = options.modules.split(",")
    if unknown := [name for name in names if name not in MODULES]:
        raise SystemExit(f"No module {', '.join(unknown)}: there are {', '.join(MODULES)}.")
    print(f"{'module':12}{'faults':>8}{'planted':>8}{'noticed':>9}")
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(options.workers) as pool:
        trees: Queue[Path] = Queue()
        for number in range(options.workers):
            trees.put(copied_tree(Path(folder) / str(number)))
        tallies = [try_module(name, options, trees, pool) for name in names]
    total = Tally(sum(tally.noticed for tally in tallies), [mutant for tally in tallies for mutant in tally.missed])
    print(f"{'all':12}{'':8}{total.noticed + len(total.missed):8}{total.noticed:9}{share(total):7.0f} %")
    if share(total) < options.least:
        raise SystemExit(1)


if __name__ == "__main__":
    main()

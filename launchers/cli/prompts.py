"""Questions to the user."""

from __future__ import annotations

import sys


def agreed(yes: bool, question: str) -> bool:
    """Whether the user agrees: with --yes, or when asked on a terminal. Ctrl-D is a no."""
    if yes:
        return True
    if not sys.stdin.isatty():
        print(f"{question} Nothing was done: say --yes in a script.", file=sys.stderr)
        return False
    # To stderr: stdout may be a file, or JSON.
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    answer = sys.stdin.readline()
    if answer.strip().lower() in ("y", "yes"):
        return True
    print("\nNo answer: nothing was done." if not answer else "Nothing was done.", file=sys.stderr)
    return False

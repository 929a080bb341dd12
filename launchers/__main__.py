"""`python -m launchers COMMAND`, also installed as `launchers`."""
# PYTHON_ARGCOMPLETE_OK

from __future__ import annotations

import os
import sys

# `python -m` looks for modules in the current folder first. That may be a folder of results, which a stranger's machine filled:
# a `rich.py` there would run.
if __name__ == "__main__" and not sys.flags.safe_path and sys.path[:1] in ([""], [os.getcwd()]):
    del sys.path[0]


def main() -> None:
    from launchers.cli.main import run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()

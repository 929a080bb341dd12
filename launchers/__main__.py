"""`python -m launchers COMMAND`, also installed as `launchers`."""

from __future__ import annotations

import sys


def main() -> None:
    from launchers.cli.main import run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()

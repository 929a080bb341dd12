"""`python -m summarizer` and the console script of the same name: argv -> Hydra -> task. Imports nothing heavy."""

from __future__ import annotations

import os
import sys


def main(argv: list[str] | None = None) -> None:
    """Run one command line and exit; `argv` defaults to the process's own arguments."""
    arguments = sys.argv[1:] if argv is None else argv
    if any(argument in ("-h", "--help") for argument in arguments):
        from summarizer.help_page import help_page

        print(help_page())
        return
    if os.environ.get("NODE_RANK", "0") != "0":  # a further node of a job: its first one runs the command
        from summarizer.tasks.nodes import help_first_node

        sys.exit(help_first_node(arguments))
    from summarizer.command_line import run

    sys.exit(run(arguments))


if __name__ == "__main__":
    main()

"""What a user can get wrong. The text of each is one sentence: what is wrong, where, how to mend it.

    SummarizerError
    ├── ConfigError        a key, option or value, or two that contradict each other
    ├── DataError          a corpus, file, column, split or row
    ├── ModelError         a model, tokenizer or adapter, or a pair that does not match
    ├── HardwareError      a device that is not there, or too little memory
    ├── CheckpointError    a run or checkpoint that cannot be continued
    ├── DivergenceError    a training whose loss is no number any more
    ├── OutputError        a folder that cannot be written, a disk that is full
    ├── HubError           a hub of models, data or results that does not answer, refuses, or lacks what was asked for
    └── Interrupted        no error: the job was asked to stop

Our own mistakes are assertions and keep their traceback.
"""

import sys

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130


def fail(text: str) -> int:
    """Print one sentence on standard error; returns the exit code that goes with it."""
    print(f"Error: {text}", file=sys.stderr)
    return EXIT_USER_ERROR


class SummarizerError(Exception):
    """Base of all: its text is shown to the user as it is, without a traceback."""


class ConfigError(SummarizerError):
    """A config key, option or value is wrong, or two contradict each other."""


class DataError(SummarizerError):
    """A corpus, file, column, split or row cannot be used."""


class ModelError(SummarizerError):
    """A model, tokenizer or adapter cannot be used, or the two do not match."""


class HardwareError(SummarizerError):
    """The device asked for is not here, or its memory does not suffice."""


class CheckpointError(SummarizerError):
    """A run folder or checkpoint cannot be continued or read."""


class DivergenceError(SummarizerError):
    """Training has lost its way: its loss is infinite or no number."""


class OutputError(SummarizerError):
    """A result cannot be written."""


class HubError(SummarizerError):
    """A hub cannot be reached or does not have what was asked for."""


class Interrupted(SummarizerError):
    """The job was asked to stop, by SIGTERM or Ctrl-C; its text says what was saved and how to continue."""

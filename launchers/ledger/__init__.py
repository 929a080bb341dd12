"""Journal of intents and states in SQLite: a request is recorded before it is made, each change after it.

One file for all launches of a user, in the user's data folder (`LAUNCHERS_HOME` moves it), readable by its owner only. Several
processes may have it open at once. It never holds a secret, and knows no provider, machine or file of a job.
"""

from launchers.ledger.home import launchers_home
from launchers.ledger.ledger import Ledger
from launchers.ledger.records import SETTLE_S, JobRecord, MachineRecord
from launchers.ledger.transitions import IllegalTransition

__all__ = ["SETTLE_S", "IllegalTransition", "JobRecord", "Ledger", "MachineRecord", "launchers_home"]

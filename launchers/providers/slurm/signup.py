"""What a newcomer does to run on a Slurm cluster."""

from launchers.providers.base import SignUp

SIGN_UP = SignUp(
    title="Slurm",
    good_for="a cluster of your own: no bill, a queue, several nodes",
    page="https://slurm.schedmd.com/quickstart.html",
    credit="none needed: a cluster counts hours, not dollars",
    key="an account on the cluster; from elsewhere, provider.login=user@login-node",
    ssh="`ssh user@login-node` must work without a question: ssh-agent or a key in ~/.ssh/config",
    prices="none: jobs wait in a queue instead",
    try_it="python -m summarizer provider=slurm hardware=a100 provider.dry_run=true",
)

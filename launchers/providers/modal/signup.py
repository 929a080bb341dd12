"""What a newcomer does to run at Modal."""

from launchers.providers.base import SignUp
from launchers.providers.modal.prices import DATED

SIGN_UP = SignUp(
    title="Modal",
    good_for="jobs without machines: started in seconds, billed by the second, moved by Modal itself; datacenter cards only",
    page="https://modal.com/",
    credit="billed after use: see the workspace's usage and billing page for its free credits and its budget",
    key="run `modal token new`, or set MODAL_TOKEN_ID and MODAL_TOKEN_SECRET",
    ssh="nothing to do: there is no ssh",
    prices=f"published list of {DATED}",
    try_it="python -m summarizer provider=modal hardware=a100 provider.dry_run=true",
)

"""What a newcomer does to rent at RunPod."""

from launchers.providers.base import SignUp
from launchers.providers.runpod import mapping

SIGN_UP = SignUp(
    title="RunPod",
    good_for="consumer and datacenter cards at fixed prices per second, in its own data centers or at others' machines",
    page="https://www.runpod.io/",
    credit="prepaid: add credit under Billing; a pod needs credit for one hour to start, and is deleted at $0",
    key=(
        "make a key at https://www.console.runpod.io/user/settings with read and write permission and "
        "`export RUNPOD_API_KEY=...`, or keep it in ~/.runpod/config.toml with mode 600"
    ),
    ssh="nothing to do: each launch makes a key pair for its own pods, and removes it at its end",
    prices=(
        f"live catalog, plus storage at ${mapping.STORAGE_PER_GB_MONTH:.2f} per GB and month from its public price page of "
        f"{mapping.STORAGE_AS_OF}; {mapping.ASSUMED_MBPS:.0f} Mbit/s are assumed and no reliability is known"
    ),
    try_it="python -m summarizer provider=runpod hardware=4090 provider.max_price=0.80 provider.dry_run=true",
)

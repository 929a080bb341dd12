"""What a newcomer does to rent at JarvisLabs."""

from launchers.providers.base import SignUp
from launchers.providers.jarvis import mapping

SIGN_UP = SignUp(
    title="JarvisLabs",
    good_for="datacenter cards at fixed prices and for teams; a spot machine that is taken away comes back with its disk",
    page="https://jarvislabs.ai/",
    credit="prepaid, from an account that pays in $: add credit before renting",
    key="make a key at https://jarvislabs.ai/settings/api-keys and `export JL_API_KEY=...`, or run `jl setup`",
    ssh="nothing to do: each launch makes a key pair, registers it, and removes it at its end (the account holds about ten keys)",
    prices=(
        f"live catalog, plus storage at ${mapping.STORAGE_PER_GB_MONTH:.2f} per GB and month from the public price page of "
        f"{mapping.STORAGE_AS_OF}; {mapping.ASSUMED_MBPS:.0f} Mbit/s are assumed and no reliability is known"
    ),
    try_it="python -m summarizer provider=jarvis hardware=a100 provider.max_price=1 provider.dry_run=true",
)

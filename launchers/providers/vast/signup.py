"""What a newcomer does to rent at Vast.ai."""

from launchers.providers.base import SignUp

SIGN_UP = SignUp(
    title="Vast.ai",
    good_for="the lowest prices, consumer cards such as the RTX 4090, spot machines; hosts differ in quality",
    page="https://cloud.vast.ai/",
    credit="prepaid: add credit under Billing; what is not spent stays",
    key=(
        "make a key at https://cloud.vast.ai/manage-keys/ and `export VAST_API_KEY=...`, "
        "or keep it in ~/.config/vastai/vast_api_key with mode 600"
    ),
    ssh="nothing to do: each launch makes a key pair for its own machines, and removes it at its end",
    prices="live search, storage included",
    try_it="python -m summarizer provider=vast hardware=4090 provider.dry_run=true",
)

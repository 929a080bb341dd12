"""One name for each card, whatever a user or a provider calls it."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass

from launchers.errors import MendInput


@dataclass(frozen=True)
class Card:
    """A card as this package calls it; memory in GiB, rounded down to what drivers report."""

    name: str
    memory_gib: float
    aliases: tuple[str, ...] = ()


CARDS = (
    Card("T4", 15, ("Tesla T4",)),
    Card("L4", 22),
    Card("A10", 22, ("A10G",)),
    Card("A30", 23),
    Card("A40", 44),
    Card("L40", 44),
    Card("L40S", 44),
    Card("RTX 3090", 23, ("3090",)),
    Card("RTX 3090 Ti", 23, ("3090 Ti",)),
    Card("RTX 4090", 23, ("4090",)),
    Card("RTX 5090", 31, ("5090",)),
    Card("RTX A6000", 47, ("A6000",)),
    Card("RTX 6000 Ada", 47, ("6000 Ada", "RTX6000Ada")),
    Card("RTX PRO 6000", 94),
    Card("A100", 39, ("A100-40GB", "A100 40GB")),
    Card("A100 80GB", 79, ("A100-80GB",)),
    Card("H100", 79, ("H100-80GB", "H100 80GB")),
    Card("H200", 139),
    Card("B200", 178),
)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower().removeprefix("nvidia ").replace("geforce", ""))


_BY_PLAIN_NAME = {_plain(name): card for card in CARDS for name in (card.name, *card.aliases)}


def find_card(name: str) -> Card:
    """The card a user means.

    Raises:
        MendInput: no such card; the text names the closest ones.
    """
    card = _BY_PLAIN_NAME.get(_plain(name))
    if card is None:
        close = difflib.get_close_matches(_plain(name), _BY_PLAIN_NAME, n=3, cutoff=0.5)
        names = sorted({_BY_PLAIN_NAME[match].name for match in close}) or [card.name for card in CARDS]
        raise MendInput(f"No card is called {name!r}; did you mean {', '.join(names)}?")
    return card

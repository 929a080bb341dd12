"""A small Debian archive of invented packages, to be served on loopback."""

import gzip
import hashlib
import random
import threading
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

SUITES = ("bookworm", "trixie", "sid")
KINDS = ["parser", "editor", "viewer", "player", "monitor", "compiler", "recorder", "scheduler", "indexer", "converter"]
FIELDS = ["music", "maps", "sensors", "recipes", "ledgers", "genomes", "weather", "tickets", "letters", "photographs"]
WORDS = [
    a + b
    for a in [
        "ba",
        "ce",
        "di",
        "fo",
        "gu",
        "ha",
        "je",
        "ki",
        "lo",
        "mu",
        "na",
        "pe",
        "ri",
        "so",
        "tu",
        "va",
        "we",
        "xi",
        "yo",
        "zu",
    ]
    for b in ["rn", "lt", "sk", "mp", "nd"]
]


def description(number: int) -> tuple[str, str]:
    """Synopsis and long description of an invented package; the words of each are nearly all its own."""
    rng = random.Random(number)
    kind, field = rng.choice(KINDS), rng.choice(FIELDS)
    filler = [" ".join(rng.choices(WORDS, k=12)) for _ in range(3)]
    synopsis = f"{rng.choice(WORDS)}{number} {kind} for {field} on the user_env"
    body = [f" Some {rng.choice(WORDS)} {kind} {filler[0]} {field}.", f" It {filler[1]}.", " .", f" Also {filler[2]}."]
    return synopsis, "\n".join(body)


def stanza(name: str, synopsis: str, body: str, section: str = "utils", source: str | None = None) -> tuple[str, str]:
    """The stanzas of a package in `Packages` and in `Translation-en`."""
    text = f"{synopsis}\n{body}\n"
    digest = hashlib.md5(text.encode()).hexdigest()
    origin = f"Source: {source} (1.0)\n" if source else ""
    listed = f"Package: {name}\n{origin}Version: 1.0\nSection: {section}\nDescription: {synopsis}\nDescription-md5: {digest}\n"
    return listed, f"Package: {name}\nDescription-md5: {digest}\nDescription-en: {text}"


def write_archive(root: Path, packages: dict[str, list[tuple[str, str]]]) -> None:
    """`dists/` of an archive with the given stanzas in each suite."""
    for suite, stanzas in packages.items():
        sums = []
        for path, column in (("main/binary-amd64/Packages.gz", 0), ("main/i18n/Translation-en.gz", 1)):
            content = gzip.compress(("\n".join(pair[column] for pair in stanzas) + "\n").encode(), mtime=0)
            target = root / "dists" / suite / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
            sums.append(f" {hashlib.sha256(content).hexdigest()} {len(content)} {path}")
        (root / "dists" / suite / "Release").write_text(f"Suite: {suite}\nSHA256:\n" + "\n".join(sums) + "\n")


def invented(count: int, start: int = 0) -> list[tuple[str, str]]:
    return [stanza(f"pkg{number}", *description(number)) for number in range(start, start + count)]


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args) -> None:
        pass


@contextmanager
def served(root: Path):
    """The address of an HTTP server of the folder."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(root)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()

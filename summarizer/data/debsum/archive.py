"""The package lists of a Debian archive: through the machine's own apt, or read from a mirror over HTTP(S).

Neither touches the machine's package state, and any user may do it: apt is given folders of its own.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import os
import shutil
import subprocess
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from summarizer.data.progress import Report
from summarizer.errors import DataError

DEBIAN_SUITES = ("bookworm", "trixie", "sid")  # oldest first; the newest text wins
ARCHITECTURE = "amd64"  # of the lists; the texts are the same on every machine
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
POCKETS = ("-updates", "-security", "-backports", "-proposed", "-proposed-updates")  # parts of a suite, not suites
TIMEOUT_SECONDS = 30
APT_SECONDS = 900
OPEN = {".xz": lzma.decompress, ".bz2": bz2.decompress, ".gz": gzip.decompress, "": bytes}


@dataclass(frozen=True)
class AptSite:
    """Where apt finds a distribution: its archive and the suites to read from it, oldest first."""

    address: str
    suites: tuple[str, ...]
    is_debian: bool


@dataclass(frozen=True)
class DownloadedLists:
    """Lists on disk, by suite; see `lists.Lists`."""

    suites: tuple[str, ...]
    files: dict[tuple[str, str], Path]

    def packages(self, suite: str) -> str:
        return read_list(self.files[suite, "Packages"])

    def translations(self, suite: str) -> str:
        return read_list(self.files[suite, "Translation-en"])


def read_list(path: Path) -> str:
    """The text of a list, however it is compressed.

    Raises:
        DataError: it is damaged.
    """
    try:
        if path.suffix in OPEN:
            content = OPEN[path.suffix](path.read_bytes())
        else:  # lz4 and others that apt keeps: its helper knows them all
            helper = ["/usr/lib/apt/apt-helper", "cat-file", str(path)]
            content = subprocess.run(helper, capture_output=True, check=True).stdout
    except (OSError, EOFError, lzma.LZMAError, subprocess.SubprocessError) as error:
        raise DataError(f"the package list {path.name} is truncated or damaged: run again to fetch it anew.") from error
    if not content.endswith(b"\n"):
        raise DataError(f"the package list {path.name} is truncated: run again to fetch it anew.")
    return content.decode("utf-8", "replace")


def apt_site() -> AptSite:
    """What apt on this machine is set up to read.

    Raises:
        DataError: there is no apt here, or it knows no archive.
    """
    if not shutil.which("apt-get"):
        raise DataError(
            "debsum is built from Debian's package lists, but this machine has no apt-get: "
            "name a mirror (https://www.debian.org/mirror/list) with data.mirror=https://..., or use data=docstrings."
        )
    command = ["apt-get", "indextargets", "--format", "$(SITE)|$(RELEASE)|$(COMPONENT)", "Created-By: Packages"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=TIMEOUT_SECONDS)
    except (OSError, subprocess.SubprocessError) as error:
        raise DataError(
            f"apt-get could not say which archives it knows ({type(error).__name__}): name a mirror with data.mirror=https://..."
        ) from error
    targets = [line.split("|") for line in done.stdout.splitlines()]
    for site, release, _ in targets:
        if release in DEBIAN_SUITES:
            return AptSite(site, DEBIAN_SUITES, is_debian=True)
    own = [(site, release) for site, release, component in targets if component == "main" and not release.endswith(POCKETS)]
    if not own:
        raise DataError(
            "apt on this machine knows no archive with a main component: name a Debian mirror with data.mirror=https://..., "
            "or use data=docstrings."
        )
    address = own[0][0]
    return AptSite(address, tuple(dict.fromkeys(release for site, release in own if site == address)), is_debian=False)


def fetch_with_apt(site: AptSite, folder: Path) -> DownloadedLists:
    """Let apt fetch (and check the signatures of) the lists of a site into `folder`; some 50 MB.

    Raises:
        DataError: apt failed; the text holds its first complaint.
    """
    folder = folder.resolve()
    for part in ("lists/partial", "cache/archives/partial"):
        (folder / part).mkdir(parents=True)
    options = [f"arch={ARCHITECTURE}"] if site.is_debian else []
    if site.is_debian and KEYRING.exists():
        options.append(f"signed-by={KEYRING}")
    prefix = f"deb [{' '.join(options)}]" if options else "deb"
    (folder / "sources.list").write_text("".join(f"{prefix} {site.address} {suite} main\n" for suite in site.suites))
    settings = {
        "Dir::State::lists": folder / "lists",
        "Dir::Cache": folder / "cache",
        "Dir::Etc::sourcelist": folder / "sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Acquire::Languages": "en",
        "Acquire::Retries": 2,
        "Acquire::http::Timeout": TIMEOUT_SECONDS,
        "Acquire::https::Timeout": TIMEOUT_SECONDS,
        "APT::Update::Error-Mode": "any",  # a list that is missing is an error, not a warning
        "APT::Sandbox::User": "root" if os.geteuid() == 0 else "",  # the cache of root is closed to apt's own user
    }
    command = ["apt-get", *(part for key, value in settings.items() for part in ("-o", f"{key}={value}")), "update"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=APT_SECONDS)
    except (OSError, subprocess.SubprocessError) as error:
        raise DataError(f"apt-get update did not finish ({type(error).__name__}): try again, or use data=docstrings.") from error
    if done.returncode:
        complaint = next((line for line in done.stderr.splitlines() if line.startswith("E:")), "E: no reason given")[3:]
        raise DataError(
            f"apt-get could not fetch the package lists ({complaint.strip().rstrip('.')}): check the network, name a mirror with "
            "data.mirror=https://..., or use data=docstrings."
        )
    files = {}
    for suite in site.suites:
        for kind, pattern in (("Packages", f"main_binary-*_{'Packages'}*"), ("Translation-en", "main_i18n_Translation-en*")):
            found = sorted((folder / "lists").glob(f"*_dists_{suite}_{pattern}"))
            if not found:
                raise DataError(f"the archive that apt reads has no {kind} list of {suite}: name a Debian mirror with data.mirror=https://...")
            files[suite, kind] = found[0]
    return DownloadedLists(site.suites, files)


def fetch_from_mirror(mirror: str, folder: Path, report: Report, suites: tuple[str, ...] = DEBIAN_SUITES) -> DownloadedLists:
    """Download the lists of a Debian mirror, each checked against the SHA-256 in its suite's `Release` file.

    `Release` itself is trusted as it comes (the check of its signature needs Debian's keys, which only apt has here):
    over https the mirror vouches for it, over http nobody does.

    Raises:
        DataError: the mirror does not answer, is no Debian archive, or sent something else than it promised.
    """
    base = mirror.rstrip("/")
    wanted: list[tuple[str, str, str, tuple[str, int]]] = []
    for suite in suites:
        release = read_address(f"{base}/dists/{suite}/Release", mirror).decode("utf-8", "replace")
        sums = checksums(release)
        for kind, path in (("Packages", f"main/binary-{ARCHITECTURE}/Packages"), ("Translation-en", "main/i18n/Translation-en")):
            ending = next((ending for ending in OPEN if path + ending in sums), None)
            if ending is None:
                raise DataError(f"data.mirror={mirror}: the suite {suite} has no {path}, so this is not a whole Debian archive; name another.")
            wanted.append((suite, kind, path + ending, sums[path + ending]))
    total = sum(size for *_, (_, size) in wanted)
    done, files = 0, {}
    for suite, kind, path, (expected, size) in wanted:
        content = read_address(f"{base}/dists/{suite}/{path}", mirror)
        if hashlib.sha256(content).hexdigest() != expected:
            raise DataError(
                f"data.mirror={mirror}: {suite}/{path} is not what the mirror promised ({len(content):,} of {size:,} bytes, or another "
                "checksum): try again in some minutes, or name another mirror."
            )
        files[suite, kind] = folder / f"{suite}_{path.replace('/', '_')}"
        files[suite, kind].write_bytes(content)
        done += size
        report(done, total)
    return DownloadedLists(suites, files)


def checksums(release: str) -> dict[str, tuple[str, int]]:
    """SHA-256 and size in bytes of each file that a `Release` file lists."""
    found, inside = {}, False
    for line in release.splitlines():
        if not line.startswith(" "):
            inside = line.strip() == "SHA256:"
        elif inside and len(parts := line.split()) == 3:
            found[parts[2]] = parts[0], int(parts[1])
    return found


def read_address(address: str, mirror: str) -> bytes:
    """The content of an address.

    Raises:
        DataError: naming the mirror and what to do.
    """
    try:
        with urllib.request.urlopen(address, timeout=TIMEOUT_SECONDS) as answer:
            return bytes(answer.read())
    except urllib.error.HTTPError as error:
        raise DataError(f"data.mirror={mirror}: {address} answers {error.code}; name the folder of a Debian archive that holds dists/.") from error
    except (OSError, ValueError, EOFError, urllib.error.URLError) as error:
        reason = getattr(error, "reason", error)
        raise DataError(f"data.mirror={mirror} cannot be read ({reason}): check the address and the network, or use data=docstrings.") from error
    except Exception as error:  # http.client raises its own kinds for an answer that ends early
        raise DataError(f"data.mirror={mirror} broke off ({type(error).__name__}): try again, or name another mirror.") from error

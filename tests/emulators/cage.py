"""A rented machine's stand-in: a real sshd in a process cage of its own, with private folders and variables.

The cage is a PID and mount namespace: killing it kills every process that was ever started through its sshd, as a preemption
does, and nothing else. Needs root, `unshare` and `sshd`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

SSHD = "/usr/sbin/sshd"
PRIVATE = "/mnt"
"""Each cage sees a folder of its own here; put `provider.remote_root` below it."""

_CONFIG = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
PidFile none
AuthorizedKeysFile {folder}/authorized_keys
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
PrintMotd no
Subsystem sftp internal-sftp
LogLevel VERBOSE
MaxStartups 100
SetEnv HOME={folder}/home PATH={folder}/bin:{path}{index}
"""

_INDEX = ("PIP_", "UV_", "SSL_CERT_")


def why_not() -> str | None:
    """Why cages can't run here, or None."""
    if os.geteuid() != 0:
        return "a cage needs root"
    for program in (SSHD, "ssh-keygen", "unshare"):
        if shutil.which(program) is None:
            return f"{program} is not installed"
    return None


@dataclass
class Cage:
    """One machine. `start` returns when sshd answers, `kill` when every process in it is gone."""

    folder: Path
    variables: dict[str, str] = field(default_factory=dict)
    disk_mb: int | None = None
    """Size of the private folder; null leaves it on the host's disk."""
    shm_mb: int | None = None
    """Size of its shared memory; null leaves it the host's."""
    port: int = 0
    process: subprocess.Popen[bytes] | None = None

    def prepare(self) -> None:
        """Folders, host key and port; the machine has an address before it answers."""
        for name in ("home", "bin", "private"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        Path("/run/sshd").mkdir(exist_ok=True)
        key = self.folder / "host_key"
        if not key.exists():
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
        (self.folder / "authorized_keys").touch(mode=0o600)
        if not self.port:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                self.port = probe.getsockname()[1]
        # a machine reaches the package index as this one does
        index = "".join(f" {k}={v}" for k, v in os.environ.items() if k.startswith(_INDEX) and not set(v) & set(' "'))
        config = _CONFIG.format(
            port=self.port, folder=self.folder, path=os.environ.get("PATH", os.defpath), index=index
        )
        (self.folder / "sshd_config").write_text(config)

    def authorize(self, public_key: str) -> None:
        with (self.folder / "authorized_keys").open("a") as file:
            file.write(public_key.strip() + "\n")

    def install(self, name: str, script: str) -> None:
        """A program on the machine's PATH."""
        program = self.folder / "bin" / name
        program.write_text(script)
        program.chmod(0o755)

    def start(self) -> None:
        private = self.folder / "private"
        disk = (
            f"mount -t tmpfs -o size={self.disk_mb}m tmpfs {PRIVATE}"
            if self.disk_mb
            else f"mount --bind {private} {PRIVATE}"
        )
        if self.shm_mb:
            disk += f" && mount -t tmpfs -o size={self.shm_mb}m tmpfs /dev/shm"
        # A shell stays process 1: sshd overwrites the memory that /proc/1/environ shows, where the machine's key is read.
        inside = f"{disk} && {SSHD} -D -e -f {self.folder}/sshd_config & wait"
        clean = {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(self.folder / "home")}
        with (self.folder / "sshd.log").open("ab") as log:
            self.process = subprocess.Popen(
                ["unshare", "--pid", "--mount", "--fork", "--kill-child", "--mount-proc", "sh", "-c", inside],
                env=clean | self.variables, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=2) as probe:
                if probe.recv(4) == b"SSH-":
                    return
            if self.process.poll() is not None:
                return  # taken away while it came up
            time.sleep(0.02)
        raise AssertionError("sshd does not answer")

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def kill(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait(10)

    def sessions(self) -> list[int]:
        """Host pids of the sshd processes that serve a login; killing one cuts that connection."""
        found = []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError, ValueError):
                command = (entry / "cmdline").read_bytes()
                if command.startswith(b"sshd: root") and self._inside(int(entry.name)):
                    found.append(int(entry.name))
        return found

    def _inside(self, pid: int) -> bool:
        assert self.process is not None
        while pid > 1:
            if pid == self.process.pid:
                return True
            pid = int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
        return False

    def cut(self) -> int:
        """Cut every open connection, as a lost network does; the processes of the job stay. Returns how many were cut."""
        pids = self.sessions()
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return len(pids)

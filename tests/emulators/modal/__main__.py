"""`python -m tests.emulators.modal`: an emulated Modal for a rehearsal by hand; see docs/modal.md."""

from __future__ import annotations

import argparse
import contextlib
import shlex
import signal
import tempfile
from pathlib import Path

from tests.emulators.modal.containers import why_not
from tests.emulators.modal.server import Modal


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.emulators.modal", description=__doc__)
    parser.add_argument("--folder", type=Path, help="where Volumes and containers lie (default: a temporary folder)")
    parser.add_argument("--build-seconds", type=float, default=0.0, help="how long each layer of an image takes")
    options = parser.parse_args()
    reason = why_not()
    if reason:
        parser.exit(1, f"This emulator can't run containers here: {reason}.\n")
    folder = options.folder or Path(tempfile.mkdtemp(prefix="emulated-modal-"))
    with Modal(folder) as modal:
        modal.control.build_seconds = options.build_seconds
        for name, value in modal.variables.items():
            print(f"export {name}={shlex.quote(value)}")
        print(f"# state: curl {modal.control.storage.url}/control")
        print(f"# acts:  curl -X POST '{modal.control.storage.url}/control/preempt?number=0'  (also crash)")
        print(
            f"#        curl -X POST '{modal.control.storage.url}/control/fault?rpc=FunctionGetOutputs&times=5'",
            flush=True,
        )
        signal.signal(signal.SIGTERM, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()


if __name__ == "__main__":
    main()

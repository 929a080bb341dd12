"""`Provider` for Modal: an application is what is "rented", its price is that of a running job. The real client, used lazily."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import sys
import tempfile
import threading
import tomllib
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from launchers.credentials import checked, fingerprint, key_from_environment
from launchers.errors import CredentialError, MendInput, NoKey
from launchers.job import MachineState, MachineStatus, Offer
from launchers.ledger import launchers_home
from launchers.providers.base import CreateRequest, JobHandles, Need
from launchers.providers.modal import prices
from launchers.providers.modal.checks import retries_of
from launchers.providers.modal.exceptions import LOGIN, translated
from launchers.providers.modal.host import TREE, ModalHost
from launchers.providers.modal.settings import ModalSettings
from launchers.remote.setup import CONSTRAINTS, UV
from launchers.secrecy import remember
from launchers.settings import RentalSettings
from launchers.snapshot import Snapshot

log = logging.getLogger("launchers")
PACKAGE = Path(__file__).parents[2]
DEFAULT_IMAGE = "debian-slim"
UV_VERSION = UV.partition("==")[2]
PATIENCE_S = 20.0
"""An application whose image is there takes a few seconds."""
_WORKER = ("__init__.py", "providers/__init__.py", "providers/modal/__init__.py", "providers/modal/worker.py")


def open_provider(api_url: str | None) -> Modal:
    """`api_url` is of other providers: Modal's client takes its server's address from MODAL_SERVER_URL."""
    try:
        from modal.config import config
    except ImportError:
        raise MendInput("The package `modal` is not installed: `pip install modal`.") from None
    for variable in ("MODAL_TOKEN_ID", "MODAL_TOKEN_SECRET", "MODAL_OAUTH_REFRESH_TOKEN"):
        key_from_environment(variable)
    with translated():
        for name in ("token_id", "token_secret", "oauth_refresh_token"):
            if config.get(name):
                remember(f"Modal's {name}", checked(str(config.get(name)), f"Modal's {name}"))
        has_token = bool(config.get("token_id") and config.get("token_secret"))
        has_oauth = bool(config.get("oauth_refresh_token"))
        if has_token and has_oauth:
            raise CredentialError(
                "Both a Modal token and OAuth credentials are set, and Modal takes only one: unset the other."
            )
        if not has_token and not has_oauth:
            profile = os.environ.get("MODAL_PROFILE")
            where = f" in the profile {profile}" if profile else ""
            raise NoKey(f"No Modal token{where}: {LOGIN} (`python -m launchers doctor` checks it).")
        return Modal(str(config.get("token_id") or config.get("oauth_refresh_token")))


def live_applications(environment: str | None) -> list[Any]:
    """Handles of the applications that have not ended."""
    import modal

    found = modal.Environment.from_name(environment) if environment else modal.Environment.from_context()
    return list(found.apps.list())


@dataclass
class _Made:
    """An application that this process made, with its Function and the open connection to it."""

    function: Any
    run: Any
    open: bool = True

    def leave(self) -> None:
        """Disconnect; an application that has calls lives on, as it was started detached."""
        if self.open:
            self.open = False
            with contextlib.suppress(Exception):
                self.run.__exit__(None, None, None)


class Modal:
    """Modal as a market of cards at list prices."""

    name = "modal"
    api_url = None

    _greeted = threading.Event()

    def __init__(self, key: str) -> None:
        self.account = fingerprint(key)
        # A log stream that is still open when the process ends makes both layers below the SDK complain of it at length.
        for layer in ("asyncio", "synchronicity.synchronizer"):
            logging.getLogger(layer).setLevel(logging.CRITICAL)
        self._made: dict[str, _Made] = {}
        self._environment: str | None = None

    def offers(self, need: Need) -> list[Offer]:
        return prices.offers(need)

    def create(self, request: CreateRequest) -> str:
        """Build the image, upload the working tree, and make the application with its one Function."""
        import modal

        settings, snapshot = request.settings, request.snapshot
        assert isinstance(settings, ModalSettings)
        assert snapshot is not None
        self._environment = settings.environment
        self._greet()
        with tempfile.TemporaryDirectory(prefix="launchers-") as folder, translated():
            tree = Path(folder) / TREE
            unpack(snapshot, tree)
            image = self._image(settings, tree / snapshot.directory)
            recipe = _recipe(settings, tree / snapshot.directory)
            if not recipe.exists():
                _build(image)
            image = image.add_local_dir(PACKAGE, "/root/launchers", ignore=lambda path: not _is_of_worker(path))
            image = image.add_local_dir(tree, f"/root/{TREE}")
            app = modal.App(request.label, include_source=False, tags={"launchers": request.label})
            function = self._function(app, image, request)
            run = app.run(detach=True, environment_name=settings.environment)
            patience = threading.Timer(
                PATIENCE_S, log.info, ["Modal is still making the application: it may build the image anew"]
            )
            patience.daemon = True
            patience.start()
            try:
                run.__enter__()
            except BaseException:
                recipe.unlink(missing_ok=True)  # the next launch builds where it can be seen
                raise
            finally:
                patience.cancel()
            recipe.touch()
        assert app.app_id is not None
        self._made[app.app_id] = _Made(function, run)
        log.info("application %s: %s", app.app_id, app.get_dashboard_url())
        return str(app.app_id)

    def _image(self, settings: ModalSettings, project: Path) -> Any:
        """The locked dependencies of the project, on the Python of this machine."""
        import modal

        version = f"{sys.version_info[0]}.{sys.version_info[1]}"
        if settings.image == DEFAULT_IMAGE:
            image = modal.Image.debian_slim(python_version=version)
        else:
            image = modal.Image.from_registry(settings.image)
        if settings.apt:
            image = image.apt_install(*settings.apt)
        if settings.python:
            return image  # an environment that has everything is named
        if (project / "uv.lock").exists():
            return image.uv_sync(str(project), frozen=True, uv_version=UV_VERSION)
        if (project / "pyproject.toml").exists():
            wanted = tomllib.loads((project / "pyproject.toml").read_text()).get("project", {}).get("dependencies", [])
            options = ""
            if (project / CONSTRAINTS).exists():  # the pins that the project was tested with
                image = image.add_local_file(str(project / CONSTRAINTS), f"/{CONSTRAINTS}", copy=True)
                options = f"-c /{CONSTRAINTS}"
            return image.uv_pip_install(*wanted, extra_options=options, uv_version=UV_VERSION) if wanted else image
        raise MendInput(
            "The working tree has neither uv.lock nor pyproject.toml, so that it is not clear what the image needs: "
            "add one, or name a Python that has everything in provider.python."
        )

    def _function(self, app: Any, image: Any, request: CreateRequest) -> Any:
        import modal

        from launchers.providers.modal.worker import run_job

        settings = request.settings
        assert isinstance(settings, ModalSettings)
        names = [name for name in settings.pass_environment if os.environ.get(name)]
        for name in sorted(set(settings.pass_environment) - set(names)):
            log.info("%s is not set here: the jobs do without it", name)
        secrets = [modal.Secret.from_name(name, environment_name=settings.environment) for name in settings.secrets]
        secrets += [modal.Secret.from_dict({name: os.environ[name] for name in names})] if names else []
        cache = settings.cache_path
        volumes = {
            path: modal.Volume.from_name(name, environment_name=settings.environment, create_if_missing=True, version=2)
            for path, name in ((settings.mount_path, settings.volume), (cache, settings.cache_volume))
        }
        retries = modal.Retries(
            max_retries=retries_of(settings), initial_delay=float(settings.retry_delay_s), backoff_coefficient=1.0
        )
        disk = int(settings.disk_gb * 1000) if settings.disk_gb > prices.DISK_GB else None
        return app.function(
            image=image, gpu=prices.gpu_argument(settings.gpu, settings.num_gpus, settings.gpu_fallback),
            timeout=settings.timeout_s, startup_timeout=settings.startup_timeout_s, retries=retries, volumes=volumes,
            secrets=secrets, max_containers=settings.parallelism, single_use_containers=True,
            cpu=settings.cpu, memory=settings.memory_mib, ephemeral_disk=disk, region=settings.region, cloud=settings.cloud,
        )(run_job)  # fmt: skip

    def host(self, instance: str, settings: RentalSettings, handles: JobHandles) -> ModalHost:
        assert isinstance(settings, ModalSettings)
        self._environment = settings.environment
        made = self._made.get(instance)
        if made is None:
            return ModalHost(instance, settings, handles)
        return ModalHost(instance, settings, handles, made.function, made.leave)

    def status(self, instance: str) -> MachineStatus:
        found = next((status for status in self.list_mine() if status.instance == instance), None)
        return found or MachineStatus(instance, "", MachineState.gone, "has ended", 0.0, False, None, "")

    def destroy(self, instance: str) -> None:
        with translated():
            for app in live_applications(self._environment):
                if app.app_id == instance:
                    app.stop()
        if instance in self._made:
            self._made.pop(instance).leave()

    def list_mine(self) -> list[MachineStatus]:
        """The applications of the environment; what an idle one costs is nothing."""
        self._greet()
        with translated():
            return [
                MachineStatus(app.app_id, app.description or "", MachineState.running, "", 0.0, False, None, "")
                for app in live_applications(self._environment)
            ]

    def _greet(self) -> None:
        """A server that does not answer is waited for for a minute: say so before."""
        if not self._greeted.is_set():
            self._greeted.set()
            log.info("connecting to Modal")


def _build(image: Any) -> None:
    """Show the build of a new image; one that was built before takes no time and says nothing."""
    import modal

    with modal.enable_output():
        image.build()


def _recipe(settings: ModalSettings, project: Path) -> Path:
    """A file of this machine that is there if Modal has built this image before: then nobody needs to look on.

    Asking the server for a build takes an application of its own, which is most of the requests of a launch.
    """
    import modal
    from modal.config import config

    where = [config.get("server_url"), config.get("token_id"), settings.environment, modal.__version__]
    what = [*sys.version_info[:2], settings.image, settings.apt, bool(settings.python)]
    files = [project / name for name in ("uv.lock", "pyproject.toml", CONSTRAINTS) if not settings.python]
    contents = [file.read_text() if file.exists() else None for file in files]
    folder = launchers_home() / "images"
    folder.mkdir(exist_ok=True, mode=0o700)
    return folder / sha256(json.dumps([where, what, contents]).encode()).hexdigest()


def _is_of_worker(path: Path) -> bool:
    """Whether the container's Function needs a file of this package: every one more is fetched at each start."""
    return path.suffix == ".py" and (path.parts[:-1] == ("remote",) or path.as_posix() in _WORKER)


def unpack(snapshot: Snapshot, folder: Path) -> None:
    """The working tree as files."""
    folder.mkdir(parents=True)
    for entry in snapshot.entries:
        path = folder / entry.path
        if entry.folder:
            path.mkdir(parents=True, exist_ok=True)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        if entry.link is not None:
            path.symlink_to(entry.link)
        elif entry.executable or not _linked(snapshot.blob(entry.digest), path):
            shutil.copyfile(snapshot.blob(entry.digest), path)
            path.chmod(0o755 if entry.executable else 0o644)


def _linked(blob: Path, path: Path) -> bool:
    """Give a blob a second name, where that is on the same file system: the tree is only read, by the upload."""
    try:
        os.link(blob, path)
    except OSError:
        return False
    return True

"""The SDK of JarvisLabs behind plain calls. The only module that imports it, and the only one that touches its private parts.

Why private parts at all: the SDK's own `create` and `resume` block until the machine runs and lose its id when they fail, and
its hosts can't be pointed elsewhere. So those two POSTs go through the SDK's transport, and a rehearsal replaces what carries
the requests.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Any

from launchers.errors import CredentialError, LaunchError, MendInput, OfferTaken, RetryLater, Unreachable
from launchers.job import Address
from launchers.providers.base import BETWEEN

_NO_MESSAGE = "Unknown error"
"""Of the SDK, where an error answer says nothing that it can read."""
GET_RETRIES = 1
"""Of the SDK, 1 s apart: the caller knows better how long a request is worth repeating."""


class Refused(RetryLater):
    """An error answer; a `RetryLater` unless what was asked for makes it something else."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(f"JarvisLabs answered {status or 'no'}: {words.rstrip('.')}.")
        self.status = status
        self.words = words
        self.may_have_acted = not 200 <= status < 500

    def of_create(self) -> LaunchError:
        """What a refused create or resume means."""
        if "balance" in self.words.lower():
            return MendInput(f"JarvisLabs refuses to rent ({self.words}): add credit to the account.")
        if self.status in (400, 403, 404, 409, 422):
            # There is no code for a lack of capacity: whatever the reason, this offer can't be had.
            return OfferTaken(f"JarvisLabs refuses this offer: {self.words}.")
        return self


class NotThere(RetryLater):
    """The account has no such machine, or the service says so for a moment."""


class JarvisClient:
    """One account.

    Raises:
        CredentialError: the constructor found no key, or a call had it refused.
        RetryLater, Unreachable, MendInput: of every call.
    """

    def __init__(self, key: str, api_url: str | None = None) -> None:
        import jarvislabs.transport
        from jarvislabs import Client

        # It logs every request at INFO.
        logging.getLogger("httpx").setLevel(logging.WARNING)
        jarvislabs.transport.MAX_RETRIES = GET_RETRIES
        self._sdk = Client(key)
        self._transport: Any = self._sdk._transport
        if api_url:
            self._redirect(api_url)

    def _redirect(self, api_url: str) -> None:
        """Send this client's requests to an emulator, under a path that names the region whose host was meant."""
        import httpx
        from jarvislabs.constants import REGION_DISPLAY_CODES, REGION_URLS

        try:
            target = httpx.URL(api_url)
        except httpx.InvalidURL as error:
            raise MendInput(f"provider.api_url {api_url!r} is no address: {error}.") from None
        codes = {httpx.URL(url).host: REGION_DISPLAY_CODES[region].lower() for region, url in REGION_URLS.items()}

        class Redirected(httpx.HTTPTransport):
            def handle_request(self, request: httpx.Request) -> httpx.Response:
                path = f"{target.path.rstrip('/')}/{codes[request.url.host]}".encode() + request.url.raw_path
                request.url = target.copy_with(raw_path=path)
                request.headers["Host"] = target.netloc.decode()
                return super().handle_request(request)

        old = self._transport._client
        self._transport._client = httpx.Client(transport=Redirected(), headers=old.headers, timeout=old.timeout)
        old.close()

    # --- the account

    def rows(self) -> list[Any]:
        """What is on offer: cards by region, with prices and free devices."""
        with translated():
            return list(self._sdk.account.gpu_availability())

    def currency(self) -> str:
        """Of the account's prices and balance: USD or INR."""
        with translated():
            return str(self._sdk.account.currency())

    def balance(self) -> float:
        with translated():
            balance = self._sdk.account.balance()
        return float(balance.balance or 0) + float(balance.grants or 0)

    def ssh_keys(self) -> list[Any]:
        with translated():
            return list(self._sdk.ssh_keys.list())

    def add_key(self, public_key: str, name: str) -> None:
        with translated():
            self._sdk.ssh_keys.add(public_key, name)

    def remove_key(self, key: str) -> None:
        """
        Raises:
            NotThere.
        """
        with translated():
            self._sdk.ssh_keys.remove(key)

    # --- machines

    def list(self) -> list[Any]:
        with translated():
            return self._sdk.instances.list()

    def get(self, machine: int) -> Any:
        """
        Raises:
            NotThere.
        """
        with translated():
            return self._sdk.instances.get(machine)

    def failure(self, machine: int, region: str | None) -> str:
        """Why a machine failed, in the service's words; empty when it does not say."""
        from jarvislabs.models import StatusResponse

        try:
            with translated():
                reply = self._request("GET", "misc/status", region, params={"machine_id": machine})
                return StatusResponse(**reply).error or ""
        except (RetryLater, NotThere):
            return ""

    def create(self, template: str, region: str, payload: dict[str, Any]) -> int:
        """The id at once, long before the machine runs."""
        with translated():
            reply = self._request("POST", f"templates/{template}/create", region, json=payload)
        return _machine_id(reply)

    def resume(self, template: str, region: str | None, payload: dict[str, Any]) -> int:
        with translated():
            reply = self._request("POST", f"templates/{template}/resume", region, json=payload)
        return _machine_id(reply)

    def destroy(self, machine: int, region: str | None) -> None:
        """
        Raises:
            NotThere.
        """
        with translated():
            reply = self._request("POST", "misc/destroy", region, params={"machine_id": machine})
        if not _succeeded(reply):
            raise Refused(200, _words(reply))

    def _request(self, method: str, path: str, region: str | None, **arguments: Any) -> Any:
        from jarvislabs.regions import region_base_url

        return self._transport.request(method, path, base_url=region_base_url(region), **arguments)


def region_codes() -> dict[str, str]:
    """Region id -> the short code that people use."""
    from jarvislabs.constants import REGION_DISPLAY_CODES

    return dict(REGION_DISPLAY_CODES)


def address_of(ssh_command: str) -> Address | None:
    """Where a machine's ssh command leads; None when it can't be read."""
    from jarvislabs.exceptions import JarvislabsError
    from jarvislabs.ssh import parse_ssh_command

    try:
        info = parse_ssh_command(ssh_command)
    except JarvislabsError:
        return None
    return Address(info.host, info.port, info.user or "root")


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """The SDK's exceptions as ours. What is no JSON, or lacks fields, comes through it as errors of other packages."""
    import httpx
    import pydantic
    from jarvislabs import exceptions

    try:
        yield
    except exceptions.AuthError as error:
        if str(error) == _NO_MESSAGE:  # the body was none of the API's
            raise RetryLater(BETWEEN.format("JarvisLabs", 401)) from None
        raise CredentialError(f"JarvisLabs refuses the key in JL_API_KEY ({error}): make a new one.") from None
    except exceptions.NotFoundError as error:
        raise NotThere(str(error)) from None
    except exceptions.InsufficientBalanceError as error:
        raise Refused(403, f"balance: {error}") from None
    except exceptions.APIError as error:
        if error.status_code == 0 and "Request " in error.message:
            raise Unreachable(f"JarvisLabs does not answer ({error.message}): check the network.") from None
        if error.message == _NO_MESSAGE and error.status_code in (401, 403):
            raise RetryLater(BETWEEN.format("JarvisLabs", error.status_code)) from None
        raise Refused(error.status_code, error.message) from None
    except exceptions.JarvislabsError as error:
        raise MendInput(f"JarvisLabs' client refuses the request: {error}.") from None
    except pydantic.ValidationError as error:
        raise RetryLater(f"JarvisLabs answered with fields missing ({error.title}).") from None
    except (ValueError, TypeError, AttributeError):
        raise RetryLater("JarvisLabs answered with something that is not the JSON it should be.") from None
    except httpx.HTTPError as error:
        raise Unreachable(f"JarvisLabs does not answer ({type(error).__name__}): check the network.") from None


def _machine_id(reply: Any) -> int:
    if not isinstance(reply, dict) or not reply.get("machine_id"):
        raise Refused(200, _words(reply))
    return int(reply["machine_id"])


def _succeeded(reply: Any) -> bool:
    from jarvislabs.responses import _normalize_success

    return isinstance(reply, dict) and _normalize_success(reply)


def _words(reply: Any) -> str:
    from jarvislabs.responses import _backend_msg

    return _backend_msg(reply)

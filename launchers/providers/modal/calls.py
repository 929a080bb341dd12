"""How a call ended, by Modal's own account. What the container returned is never looked at: Modal's client would unpickle it, and a
pickle is a program of whoever wrote it. What the job did stands on the Volume, as JSON.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from launchers.providers.modal.exceptions import translated
from launchers.secrecy import scrub
from launchers.text import shown


@dataclass(frozen=True)
class CallEnd:
    """`kind`: success, failure, timeout, internal (a failure of Modal's), expired (the result is forgotten)."""

    kind: str
    words: str = ""


def end_of_call(call_id: str) -> CallEnd | None:
    """None while the call waits or runs."""
    from modal_proto import api_pb2

    with translated():
        answer = _asker()(call_id)
    if not answer.outputs:
        return None if answer.num_unfinished_inputs else CallEnd("expired")
    result = answer.outputs[0].result
    status = api_pb2.GenericResult.GenericStatus.Name(result.status).removeprefix("GENERIC_STATUS_")
    kinds = {"SUCCESS": "success", "TIMEOUT": "timeout", "INTERNAL_FAILURE": "internal"}
    return CallEnd(kinds.get(status, "failure"), shown(scrub(result.exception)[:2000], lines=False))


@functools.cache
def _asker() -> Callable[[str], Any]:
    """The request that `FunctionCall.get` makes, without what it does with the answer. Modal has no public way to it."""
    from modal._functions import _Invocation
    from modal._utils.async_utils import synchronize_api
    from modal.client import _Client

    async def _ask(call_id: str) -> Any:
        client = await _Client.from_env()
        return await _Invocation(client._stub, call_id, client).pop_function_call_outputs(timeout=0)

    return synchronize_api(_ask)

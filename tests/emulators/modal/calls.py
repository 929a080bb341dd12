"""What a client asks of Functions and of their calls; `schedule.py` decides what becomes of the inputs."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from google.protobuf.empty_pb2 import Empty
from grpclib import Status
from modal._utils.jwt_utils import DecodedJwt
from modal_proto import api_pb2

from tests.emulators.modal.schedule import Schedule
from tests.emulators.modal.state import Call, Function, Input, Result, new_id, refuse

CARDS = [
    "T4", "L4", "A10", "A10G", "L40S", "A100", "A100-40GB", "A100-80GB", "RTX-PRO-6000", "H100", "H100!", "H200", "B200", "B200+",
]  # fmt: skip
MAX_TIMEOUT_S = 86_400


def _jwt(put: Input) -> str:
    """The client reads it without a look at its signature."""
    fields = {"idx": put.number, "input_id": put.id, "function_call_id": put.call.id}
    return DecodedJwt.encode_without_signature(fields)


class Calls(Schedule):
    """The RPCs of Functions, calls and results."""

    def handle(self, function: Function) -> api_pb2.FunctionHandleMetadata:
        formats = [api_pb2.DATA_FORMAT_PICKLE, api_pb2.DATA_FORMAT_CBOR]
        return api_pb2.FunctionHandleMetadata(
            function_name=function.name, function_type=api_pb2.Function.FUNCTION_TYPE_FUNCTION, app_id=function.app.id,
            supported_input_formats=formats, supported_output_formats=formats,
        )  # fmt: skip

    async def FunctionPrecreate(self, request: Any, task: str) -> Any:
        function = Function(new_id("fu"), self.apps[request.app_id], request.function_name)
        self.functions[function.id] = function
        return api_pb2.FunctionPrecreateResponse(function_id=function.id, handle_metadata=self.handle(function))

    async def FunctionCreate(self, request: Any, task: str) -> Any:
        function = self.functions[request.existing_function_id]
        ranked = [r.function for r in request.function_data.ranked_functions]
        definition = api_pb2.Function()
        definition.CopyFrom(ranked[0] if ranked else request.function)
        if ranked:
            # What all alternatives share stands beside them.
            for name in ("module_name", "function_name", "timeout_secs", "startup_timeout_secs"):
                if getattr(request.function_data, name):
                    setattr(definition, name, getattr(request.function_data, name))
            definition.function_type = request.function_data.function_type
            definition.autoscaler_settings.CopyFrom(request.function_data.autoscaler_settings)
        if not 1 <= definition.timeout_secs <= MAX_TIMEOUT_S:
            raise refuse(f"Timeout must be between 1 second and 24 hours, not {definition.timeout_secs} s")
        for one in ranked or [definition]:
            card = one.resources.gpu_config
            if card.gpu_type:
                if card.gpu_type not in CARDS:
                    raise refuse(f"Invalid GPU type: {card.gpu_type}")
                function.cards.append(f"{card.gpu_type}:{card.count or 1}")
        function.definition = definition
        response = api_pb2.FunctionCreateResponse(
            function_id=function.id, function=definition, handle_metadata=self.handle(function)
        )
        response.function_data.CopyFrom(request.function_data)
        if not ranked:
            response.function_data.ranked_functions.add(rank=0, function=definition)
        function.app.functions[function.name] = function.id
        return response

    async def FunctionMap(self, request: Any, task: str) -> Any:
        function = self.functions[request.function_id]
        if not function.app.live:
            raise refuse(f"App {function.app.id} is stopped", Status.FAILED_PRECONDITION)
        sync = request.function_call_invocation_type == api_pb2.FUNCTION_CALL_INVOCATION_TYPE_SYNC
        call = Call(new_id("fc"), function, waited_for=sync)
        self.calls[call.id] = call
        response = api_pb2.FunctionMapResponse(
            function_call_id=call.id, function_call_jwt=call.id, sync_client_retries_enabled=sync
        )
        self._put(call, request.pipelined_inputs, response.pipelined_inputs)
        response.retry_policy.CopyFrom(function.definition.retry_policy)
        return response

    async def FunctionPutInputs(self, request: Any, task: str) -> Any:
        """More inputs of a map."""
        response = api_pb2.FunctionPutInputsResponse()
        self._put(self._call(request.function_call_id), request.inputs, response.inputs)
        return response

    async def FunctionRetryInputs(self, request: Any, task: str) -> Any:
        call = self._call(request.function_call_jwt)
        for item in request.inputs:
            put = next(put for put in call.inputs if _jwt(put) == item.input_jwt)
            put.output, put.retries = None, item.retry_count
            call.settled.clear()
            call.function.queue.append(put)
        self.wake()
        return api_pb2.FunctionRetryInputsResponse(input_jwts=[item.input_jwt for item in request.inputs])

    def _put(self, call: Call, items: Any, answers: Any) -> None:
        for item in items:
            put = Input(new_id("in"), call, item.input, item.idx)
            call.inputs.append(put)
            call.settled.clear()
            call.function.queue.append(put)
            answers.add(idx=item.idx, input_id=put.id, input_jwt=_jwt(put))
        self.wake()

    def _call(self, call: str) -> Call:
        if call not in self.calls:
            raise refuse(f"No FunctionCall with ID {call}", Status.NOT_FOUND)
        return self.calls[call]

    async def FunctionGetOutputs(self, request: Any, task: str) -> Any:
        """What has come since the last answer, or else what comes first."""
        call = self._call(request.function_call_id)
        if call.expired:
            return api_pb2.FunctionGetOutputsResponse(num_unfinished_inputs=0)
        seen = int(request.last_entry_id.partition("-")[0] or 0)
        if len(call.outputs) <= seen:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(request.timeout, 0.001)):
                    await call.news.wait()
        return api_pb2.FunctionGetOutputsResponse(
            outputs=call.outputs[seen:], num_unfinished_inputs=len(call.inputs) - len(call.outputs),
            last_entry_id=f"{len(call.outputs)}-0",
        )  # fmt: skip

    async def FunctionCallFromId(self, request: Any, task: str) -> Any:
        call = self._call(request.function_call_id)
        metadata = api_pb2.FunctionCallHandleMetadata(app_id=call.function.app.id, function_id=call.function.id)
        return api_pb2.FunctionCallFromIdResponse(
            function_call_id=call.id, num_inputs=len(call.inputs), metadata=metadata
        )

    async def FunctionCallGetInfo(self, request: Any, task: str) -> Any:
        call = self._call(request.function_call_id)
        info = api_pb2.FunctionCallInfo(
            function_call_id=call.id, created_at=call.created, total_inputs=len(call.inputs)
        )
        done = Result.GENERIC_STATUS_SUCCESS, Result.GENERIC_STATUS_TIMEOUT, Result.GENERIC_STATUS_TERMINATED
        info.succeeded_inputs.total = call.total(done[0])
        info.timeout_inputs.total = call.total(done[1])
        info.cancelled_inputs.total = call.total(done[2])
        finished = sum(i.output is not None for i in call.inputs)
        info.failed_inputs.total = finished - call.total(*done)
        info.pending_inputs.total = len(call.inputs) - finished
        return api_pb2.FunctionCallGetInfoResponse(info=info)

    async def FunctionCallCancel(self, request: Any, task: str) -> Any:
        self.cancel(self._call(request.function_call_id), request.terminate_containers)
        return Empty()

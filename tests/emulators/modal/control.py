"""The answers to the RPCs. A method is named as its RPC; one that is missing here is answered UNIMPLEMENTED.

Two halves: what a client asks (apps, images, Functions, Volumes, results), and what a container asks (inputs, outputs, commits).
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import stat
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from google.protobuf.empty_pb2 import Empty
from grpclib import GRPCError, Status
from modal._utils.jwt_utils import DecodedJwt
from modal_proto import api_pb2

from tests.emulators.modal.schedule import Schedule
from tests.emulators.modal.state import App, Call, Function, Input, Result, new_id
from tests.emulators.modal.storage import BLOCK, Storage, Volume

CARDS = [
    "T4", "L4", "A10", "A10G", "L40S", "A100", "A100-40GB", "A100-80GB", "RTX-PRO-6000", "H100", "H100!", "H200", "B200", "B200+",
]  # fmt: skip
MAX_TIMEOUT_S = 86_400


@dataclass
class Secret:
    id: str
    name: str
    values: dict[str, str]


def _jwt(put: Input) -> str:
    """The client reads it without a look at its signature."""
    fields = {"idx": put.number, "input_id": put.id, "function_call_id": put.call.id}
    return DecodedJwt.encode_without_signature(fields)


def refuse(text: str, status: Status = Status.INVALID_ARGUMENT) -> GRPCError:
    return GRPCError(status, text)


class Control(Schedule):
    """State and answers. `url` is known once the server listens."""

    def __init__(self, storage: Storage, folder: Path) -> None:
        super().__init__(folder)
        self.storage = storage
        self.url = ""
        self.apps: dict[str, App] = {}
        self.functions: dict[str, Function] = {}
        self.secrets: dict[str, Secret] = {}
        self.mounts: dict[str, list[api_pb2.MountFile]] = {}
        self.images: dict[str, api_pb2.Image] = {}
        self.built: set[bytes] = set()
        self.stored_secrets: dict[str, dict[str, str]] = {}
        self.fail_build = False
        self.build_seconds = 0.0
        self.cold_builds = 0

    # --- apps

    async def EnvironmentGetOrCreate(self, request: Any, task: str) -> Any:
        settings = api_pb2.EnvironmentSettings(image_builder_version="2025.06")
        metadata = api_pb2.EnvironmentMetadata(name=request.deployment_name or "main", settings=settings)
        return api_pb2.EnvironmentGetOrCreateResponse(environment_id="en-emulated", metadata=metadata)

    async def AppCreate(self, request: Any, task: str) -> Any:
        app = App(new_id("ap"), request.description, request.app_state, dict(request.tags))
        self.apps[app.id] = app
        return api_pb2.AppCreateResponse(app_id=app.id, app_page_url=f"{self.storage.url}/apps/{app.id}")

    async def AppList(self, request: Any, task: str) -> Any:
        items = [
            api_pb2.AppListResponse.AppListItem(
                app_id=app.id, description=app.description, created_at=app.created, stopped_at=app.stopped or 0.0,
                state=app.state, n_running_tasks=sum(len(self.functions[f].tasks) for f in app.functions.values()),
                metadata=api_pb2.AppHandleMetadata(
                    app_id=app.id, description=app.description,
                    lifecycle=api_pb2.AppLifecycle(app_state=app.state, created_at=app.created),  # type: ignore[arg-type]
                ),
            )
            for app in self.apps.values()
        ]  # fmt: skip
        return api_pb2.AppListResponse(apps=items)

    async def AppHeartbeat(self, request: Any, task: str) -> Any:
        self.apps[request.app_id].heartbeat = time.time()
        return Empty()

    async def AppPublish(self, request: Any, task: str) -> Any:
        app = self.apps[request.app_id]
        app.functions = dict(request.function_ids)
        return api_pb2.AppPublishResponse(url=f"{self.storage.url}/apps/{app.id}", deployed_at=time.time())

    async def AppClientDisconnect(self, request: Any, task: str) -> Any:
        app = self.apps[request.app_id]
        if app.state == api_pb2.APP_STATE_DETACHED:
            app.state = api_pb2.APP_STATE_DETACHED_DISCONNECTED
            self.settle_app(app)
        else:
            await self.stop_app(app)
        return Empty()

    async def AppStop(self, request: Any, task: str) -> Any:
        if request.app_id not in self.apps:
            raise refuse(f"No App with ID {request.app_id}", Status.NOT_FOUND)
        await self.stop_app(self.apps[request.app_id])
        return Empty()

    async def AppGetLogs(self, request: Any, task: str) -> AsyncIterator[Any]:
        app = self.apps[request.app_id]
        position = int(request.last_entry_id or 0)
        ends = time.monotonic() + (request.timeout or 55)
        while True:
            for batch in app.log[position:]:
                position += 1
                if not request.function_call_id or batch.items[0].function_call_id == request.function_call_id:
                    yield batch
            if not app.live:
                yield api_pb2.TaskLogsBatch(app_done=True, entry_id=f"{position:012d}")
                return
            if time.monotonic() >= ends:
                return
            await asyncio.sleep(0.02)

    # --- source and image

    async def MountGetOrCreate(self, request: Any, task: str) -> Any:
        mount = new_id("mo")
        self.mounts[mount] = list(request.files)
        metadata = api_pb2.MountHandleMetadata(content_checksum_sha256_hex=mount)
        return api_pb2.MountGetOrCreateResponse(mount_id=mount, handle_metadata=metadata)

    async def MountBatchedCheckExistence(self, request: Any, task: str) -> Any:
        missing = [d for d in request.sha256_hex_hashes if not self.storage.blob(d).exists()]
        return api_pb2.MountBatchedCheckExistenceResponse(missing_sha256_hex_hashes=missing)

    async def MountPutFile(self, request: Any, task: str) -> Any:
        target = self.storage.blob(request.sha256_hex)
        if request.data_blob_id:
            shutil.copyfile(self.storage.blob(request.data_blob_id), target)
        elif request.data or not request.sha256_hex:
            target.write_bytes(request.data)
            self.storage.uploads += 1
        elif not target.exists():
            target.write_bytes(b"")
        return api_pb2.MountPutFileResponse(exists=target.exists())

    def materialise(self, mount: str, top: Path) -> None:
        """The files of a mount, below `top` as below `/`."""
        for file in self.mounts[mount]:
            path = top / PurePosixPath(file.filename).relative_to("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.storage.blob(file.sha256_hex), path)
            if file.mode:
                path.chmod(stat.S_IMODE(file.mode))

    async def ImageGetOrCreate(self, request: Any, task: str) -> Any:
        image = new_id("im")
        recipe = api_pb2.Image()
        recipe.CopyFrom(request.image)
        for base in recipe.base_images:
            base.docker_tag, base.image_id = base.docker_tag, "any"
        key = recipe.SerializeToString(deterministic=True)
        self.images[image] = request.image
        response = api_pb2.ImageGetOrCreateResponse(image_id=image)
        if key in self.built and not self.fail_build:
            response.result.status = Result.GENERIC_STATUS_SUCCESS
            response.metadata.image_builder_version = "2025.06"
        else:
            self.cold_builds += 1
            self.built.add(key)
        return response

    async def ImageJoinStreaming(self, request: Any, task: str) -> AsyncIterator[Any]:
        commands = self.images[request.image_id].dockerfile_commands
        await asyncio.sleep(self.build_seconds)
        for number, line in enumerate(commands):
            log = api_pb2.TaskLogs(data=f"=> {line}\n", file_descriptor=api_pb2.FILE_DESCRIPTOR_STDOUT)
            yield api_pb2.ImageJoinStreamingResponse(task_logs=[log], entry_id=str(number + 1))
        last = api_pb2.ImageJoinStreamingResponse(eof=True)
        last.metadata.image_builder_version = "2025.06"
        if self.fail_build:
            last.result.status = Result.GENERIC_STATUS_FAILURE
        else:
            last.result.status = Result.GENERIC_STATUS_SUCCESS
        yield last

    # --- secrets

    async def SecretGetOrCreate(self, request: Any, task: str) -> Any:
        if request.deployment_name:
            values = self.stored_secrets.get(request.deployment_name)
            if values is None:
                raise refuse(f"Secret '{request.deployment_name}' not found", Status.NOT_FOUND)
            lacking = [key for key in request.required_keys if key not in values]
            if lacking:
                raise refuse(f"Secret is missing key(s): {', '.join(lacking)}", Status.NOT_FOUND)
        else:
            values = dict(request.env_dict)
        secret = Secret(new_id("st"), request.deployment_name, values)
        self.secrets[secret.id] = secret
        return api_pb2.SecretGetOrCreateResponse(secret_id=secret.id)

    # --- volumes

    async def VolumeGetOrCreate(self, request: Any, task: str) -> Any:
        volume = self.storage.volume_named(request.deployment_name)
        if volume is None:
            if request.object_creation_type != api_pb2.OBJECT_CREATION_TYPE_CREATE_IF_MISSING:
                raise refuse(f"Volume '{request.deployment_name}' not found", Status.NOT_FOUND)
            folder = self.storage.folder / "volumes" / request.deployment_name
            folder.mkdir(parents=True)
            version = request.version or api_pb2.VOLUME_FS_VERSION_V2
            volume = Volume(new_id("vo"), request.deployment_name, folder, version)
            self.storage.volumes[volume.id] = volume
        metadata = api_pb2.VolumeMetadata(version=volume.version, name=volume.name)  # type: ignore[arg-type]
        return api_pb2.VolumeGetOrCreateResponse(
            volume_id=volume.id, version=volume.version, metadata=metadata,  # type: ignore[arg-type]
        )  # fmt: skip

    def _file(self, request: Any) -> tuple[Volume, Path]:
        volume = self.storage.volumes[request.volume_id]
        path = volume.path(request.path)
        if not path.exists():
            raise refuse(f"No such file or directory: {request.path}", Status.NOT_FOUND)
        return volume, path

    async def VolumeListFiles2(self, request: Any, task: str) -> AsyncIterator[Any]:
        volume, top = self._file(request)
        found = [top] if top.is_file() else sorted(top.rglob("*") if request.recursive else top.iterdir())
        entries = [
            api_pb2.FileEntry(
                path=path.relative_to(volume.published).as_posix(), size=path.stat().st_size if path.is_file() else 0,
                type=api_pb2.FileEntry.FileType.FILE if path.is_file() else api_pb2.FileEntry.FileType.DIRECTORY,
                mtime=int(path.stat().st_mtime),
            )
            for path in found
        ]  # fmt: skip
        yield api_pb2.VolumeListFiles2Response(entries=entries)

    async def VolumeGetFile2(self, request: Any, task: str) -> Any:
        _, path = self._file(request)
        if path.is_dir():
            raise refuse(f"Not a file: {request.path}")
        try:
            size = path.stat().st_size
            urls = self.storage.block_urls(path) if size else []
        except FileNotFoundError:  # a commit removed it just now
            raise refuse(f"No such file: {request.path}", Status.NOT_FOUND) from None
        return api_pb2.VolumeGetFile2Response(get_urls=urls, size=size, start=0, len=size)

    async def VolumePutFiles2(self, request: Any, task: str) -> Any:
        volume = self.storage.volumes[request.volume_id]
        response = api_pb2.VolumePutFiles2Response()
        for index, file in enumerate(request.files):
            if request.disallow_overwrite_existing_files and volume.path(file.path).exists():
                raise refuse(f"{file.path} exists already", Status.ALREADY_EXISTS)
            for number, block in enumerate(file.blocks):
                if not self.storage.blob(block.contents_sha256.hex()).exists():
                    url = self.storage.blob_url(block.contents_sha256.hex())
                    response.missing_blocks.add(file_index=index, block_index=number, put_url=url)
        if not response.missing_blocks:
            for file in request.files:
                self._write(volume.path(file.path), file)
        return response

    def _write(self, path: Path, file: Any) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as target:
            for number, block in enumerate(file.blocks):
                target.seek(number * BLOCK)
                target.write(self.storage.blob(block.contents_sha256.hex()).read_bytes())
            target.truncate(file.size)

    async def VolumeRemoveFile2(self, request: Any, task: str) -> Any:
        _, path = self._file(request)
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        return Empty()

    # --- blobs

    async def BlobCreate(self, request: Any, task: str) -> Any:
        blob = new_id("bl")
        response = api_pb2.BlobCreateResponse(blob_ids=[blob])
        response.upload_urls.items.append(self.storage.blob_url(blob))
        return response

    async def BlobGet(self, request: Any, task: str) -> Any:
        return api_pb2.BlobGetResponse(download_url=self.storage.blob_url(request.blob_id))

    # --- Functions and calls

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
                await asyncio.wait_for(call.news.wait(), max(request.timeout, 0.001))
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

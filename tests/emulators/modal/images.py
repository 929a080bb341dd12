"""What a client sends ahead of its Functions: source as mounts, images, secrets."""

from __future__ import annotations

import asyncio
import shutil
import stat
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from grpclib import Status
from modal_proto import api_pb2

from tests.emulators.modal.state import Result, new_id, refuse
from tests.emulators.modal.storage import Storage


@dataclass
class Secret:
    id: str
    name: str
    values: dict[str, str]


class Images:
    """The RPCs of mounts, images and secrets."""

    storage: Storage

    def __init__(self) -> None:
        self.secrets: dict[str, Secret] = {}
        self.mounts: dict[str, list[api_pb2.MountFile]] = {}
        self.images: dict[str, api_pb2.Image] = {}
        self.built: set[bytes] = set()
        self.stored_secrets: dict[str, dict[str, str]] = {}
        self.fail_build = False
        self.build_seconds = 0.0
        self.cold_builds = 0

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

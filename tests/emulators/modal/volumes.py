"""What a client asks of Volumes, and of blobs: both are addresses of bytes that move over HTTP."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from google.protobuf.empty_pb2 import Empty
from grpclib import Status
from modal_proto import api_pb2

from tests.emulators.modal.state import new_id, refuse
from tests.emulators.modal.storage import BLOCK, Storage, Volume


class Volumes:
    """The RPCs of Volumes and blobs, but for what containers commit."""

    storage: Storage

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

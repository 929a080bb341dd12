"""The answers to the RPCs. A method is named as its RPC; one that is missing is answered UNIMPLEMENTED.

What a client asks of apps is here, and of the rest in `images.py`, `volumes.py` and `calls.py`; what a container asks (inputs,
outputs, commits) is in `schedule.py`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from google.protobuf.empty_pb2 import Empty
from grpclib import Status
from modal_proto import api_pb2

from tests.emulators.modal.calls import Calls
from tests.emulators.modal.images import Images
from tests.emulators.modal.state import App, Function, new_id, refuse
from tests.emulators.modal.storage import Storage
from tests.emulators.modal.volumes import Volumes


class Control(Calls, Images, Volumes):
    """State and answers. `url` is known once the server listens."""

    def __init__(self, storage: Storage, folder: Path) -> None:
        Calls.__init__(self, folder)
        Images.__init__(self)
        self.storage = storage
        self.url = ""
        self.apps: dict[str, App] = {}
        self.functions: dict[str, Function] = {}

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

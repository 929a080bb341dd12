"""A Weights & Biases server on loopback: what a logging run and `wandb sync` use of its protocol, kept in memory.

In a test: `with WandbServer() as server: ...`. By hand: `python -m tests.emulators.wandb_server` prints the two
variables to export, and what each request was.
"""

from __future__ import annotations

import base64
import gzip
import json
import sys
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "0123456789" * 4
ENTITY = "someone"


@dataclass
class StoredRun:
    """One run as the server knows it."""

    id: str
    project: str = ""
    group: str | None = None
    name: str | None = None
    tags: list[str] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    history: dict[int, dict[str, Any]] = field(default_factory=dict)
    """Line number to logged row."""
    files: dict[str, bytes] = field(default_factory=dict)
    artifacts: list[str] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    starts: int = 0
    """How often a process announced it."""
    exit_code: int | None = None

    def column(self, key: str) -> list[Any]:
        """Values of one metric, in the order logged."""
        return [row[key] for _, row in sorted(self.history.items()) if key in row]


@dataclass
class StoredView:
    """A workspace or a report."""

    id: str
    project: str
    name: str
    title: str
    type: str
    spec: str
    saves: int = 1

    @property
    def node(self) -> dict[str, Any]:
        project = {"id": "project", "name": self.project, "entityName": ENTITY}
        return {
            "id": self.id, "name": self.name, "displayName": self.title, "spec": self.spec, "type": self.type,
            "description": "", "project": project, "createdAt": "2026-01-01T00:00:00Z", "updatedAt": "2026-01-01T00:00:00Z",
        }  # fmt: skip


class WandbServer:
    """Start on entering, stop on leaving.

    Attributes:
        runs: what was logged, by run id.
        views: workspaces and reports, by id.
        read_only: refuse to save views.
        requests: names of all operations and paths asked for, oldest first.
        status: an HTTP status to answer everything with, None to serve.
        delay: seconds before each answer.
    """

    def __init__(self, port: int = 0, key: str = KEY, verbose: bool = False) -> None:
        self.key, self.verbose = key, verbose
        self.runs: dict[str, StoredRun] = {}
        self.views: dict[str, StoredView] = {}
        self.read_only = False
        self.requests: list[str] = []
        self.bodies: list[bytes] = []
        self.status: int | None = None
        self.delay = 0.0
        self.lock = threading.Lock()
        self.server = ThreadingHTTPServer(("127.0.0.1", port), handler_of(self))
        self.server.daemon_threads = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    @property
    def environment(self) -> dict[str, str]:
        return {"WANDB_BASE_URL": self.url, "WANDB_API_KEY": self.key}

    def __enter__(self) -> WandbServer:
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Close the port: later requests are refused by the system."""
        self.server.shutdown()
        self.server.server_close()

    # ------------------------------------------------------------------ operations
    def graphql(self, operation: str, variables: dict[str, Any]) -> dict[str, Any]:
        answer = getattr(self, f"on_{operation}", None)
        return answer(variables) if answer else {}

    def on_Viewer(self, variables: dict[str, Any]) -> dict[str, Any]:
        viewer = {
            "id": "viewer",
            "name": ENTITY,
            "admin": False,
            "entity": ENTITY,
            "flags": "{}",
            "username": ENTITY,
            "email": "",
            "teams": {"edges": []},
        }
        return {"viewer": viewer}

    def on_ServerFeaturesQuery(self, variables: dict[str, Any]) -> dict[str, Any]:
        return {"serverInfo": {"features": []}}

    def on_OrganizationCoreWeaveOrganizationID(self, variables: dict[str, Any]) -> dict[str, Any]:
        return {"entity": None}

    def on_ArtifactType(self, variables: dict[str, Any]) -> dict[str, Any]:
        return {"project": None}  # asked before an artifact is logged: none of that name yet

    def on_RunResumeStatus(self, variables: dict[str, Any]) -> dict[str, Any]:
        run = self.runs.get(variables["name"])
        bucket = None
        if run is not None:
            lines = [json.dumps(row) for _, row in sorted(run.history.items())]
            bucket = {
                **self.bucket(run), "summaryMetrics": json.dumps({}), "logLineCount": 0, "eventsLineCount": 0,
                "historyLineCount": len(lines), "historyTail": json.dumps(lines[-1:]), "eventsTail": "[]",
                "tags": run.tags,
                "wandbConfig": json.dumps({"t": 1}),
            }  # fmt: skip
        entity = {"id": ENTITY, "name": ENTITY}
        return {"model": {"id": "project", "name": variables.get("project"), "entity": entity, "bucket": bucket}}

    def on_UpsertBucket(self, variables: dict[str, Any]) -> dict[str, Any]:
        identity = variables.get("name") or variables["id"]
        inserted = identity not in self.runs
        run = self.runs.setdefault(identity, StoredRun(identity))
        if variables.get("project"):  # announced by a process; later calls only update what they carry
            run.project = variables["project"]
            run.starts += 1
        run.group = variables.get("groupName") or run.group
        run.name = variables.get("displayName") or run.name
        run.tags = variables.get("tags") or run.tags
        if variables.get("config"):
            run.config |= {key: item["value"] for key, item in json.loads(variables["config"]).items()}
        return {"upsertBucket": {"inserted": inserted, "bucket": self.bucket(run)}}

    def bucket(self, run: StoredRun) -> dict[str, Any]:
        project = {"id": "project", "name": run.project, "entity": {"id": ENTITY, "name": ENTITY}}
        return {
            "id": run.id, "name": run.id, "displayName": run.name, "description": None, "sweepName": None,
            "config": json.dumps({key: {"value": value} for key, value in run.config.items()}),
            "historyLineCount": len(run.history), "project": project,
        }  # fmt: skip

    def on_ProjectOfDashboard(self, variables: dict[str, Any]) -> dict[str, Any]:
        known = {run.project for run in self.runs.values()}
        there = variables["entity"] == ENTITY and variables["project"] in known
        return {"project": {"id": "project", "name": variables["project"], "readOnly": False} if there else None}

    def on_ViewsOfDashboard(self, variables: dict[str, Any]) -> dict[str, Any]:
        found = [view for view in self.views.values() if view.type == variables["type"]]
        return {"project": {"allViews": {"edges": [{"node": view.node} for view in found]}}}

    def on_View(self, variables: dict[str, Any]) -> dict[str, Any]:
        found = [view for view in self.views.values() if view.name == variables["viewName"]]
        return {"project": {"allViews": {"edges": [{"node": view.node} for view in found]}}}

    def on_SpecificReport(self, variables: dict[str, Any]) -> dict[str, Any]:
        return {"view": self.views[variables["reportId"]].node}

    def on_ProjectInternalId(self, variables: dict[str, Any]) -> dict[str, Any]:
        return {"project": {"id": "project", "internalId": "internal-project"}}

    def on_GetProjects(self, variables: dict[str, Any]) -> dict[str, Any]:
        names = sorted({run.project for run in self.runs.values()})
        user = {
            **self.on_Viewer({})["viewer"], "deletedAt": None, "apiKeys": {"edges": []},
        }  # fmt: skip
        nodes = [
            {"id": "project", "name": name, "entityName": ENTITY, "createdAt": "2026-01-01T00:00:00Z", "isBenchmark": False,
             "user": user, "internalId": "internal-project"} for name in names
        ]  # fmt: skip
        edges = [{"node": node, "cursor": node["name"]} for node in nodes]
        return {"models": {"edges": edges, "pageInfo": {"endCursor": None, "hasNextPage": False}}}

    def on_UpsertView2(self, variables: dict[str, Any]) -> dict[str, Any]:
        if self.read_only:
            raise PermissionError("permission denied")
        identity = variables.get("id") or base64.b64encode(f"View:{1000 + len(self.views)}".encode()).decode()
        inserted = identity not in self.views
        if inserted:
            self.views[identity] = StoredView(
                identity, variables["projectName"], variables["name"], variables["displayName"], variables["type"],
                variables["spec"],
            )  # fmt: skip
        else:
            view = self.views[identity]
            view.spec, view.title, view.saves = variables["spec"], variables["displayName"], view.saves + 1
        return {"upsertView": {"view": self.views[identity].node, "inserted": inserted}}

    on_upsertView = on_UpsertView2

    def on_CreateRunFiles(self, variables: dict[str, Any]) -> dict[str, Any]:
        run = variables["run"]
        files = [{"name": name, "uploadUrl": f"{self.url}/upload/{run}/{name}"} for name in variables["files"]]
        return {"createRunFiles": {"runID": run, "uploadHeaders": [], "files": files}}

    def on_CreateArtifact(self, variables: dict[str, Any]) -> dict[str, Any]:
        found = variables.get("input", variables)
        run = self.runs.get(found.get("runName", ""))
        if run is not None:
            run.artifacts.append(found.get("artifactTypeName", ""))
        sequence = {"id": "sequence", "latestArtifact": {"id": "artifact", "versionIndex": 0}}
        return {"createArtifact": {"artifact": {"id": "artifact", "state": "COMMITTED", "artifactSequence": sequence}}}

    def file_stream(self, identity: str, body: dict[str, Any]) -> None:
        run = self.runs.setdefault(identity, StoredRun(identity))
        lines = body.get("files", {}).get("wandb-history.jsonl", {"offset": 0, "content": []})
        for number, line in enumerate(lines["content"], lines["offset"]):
            run.history[number] = json.loads(line)
        for line in body.get("files", {}).get("wandb-summary.json", {"content": []})["content"]:
            run.summary |= json.loads(line)
        if body.get("complete"):
            run.exit_code = body.get("exitcode")


def handler_of(state: WandbServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def body(self) -> bytes:
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            return gzip.decompress(raw) if self.headers.get("Content-Encoding") == "gzip" else raw

        def answer(self, status: int, content: dict[str, Any]) -> None:
            data = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def serve(self) -> None:
            body = self.body()
            parts = self.path.partition("?")[0].strip("/").split("/")
            call = json.loads(body) if parts == ["graphql"] else {}
            name = call.get("operationName") or operation_of(call.get("query", "")) or self.path
            time.sleep(state.delay)
            with state.lock:
                state.requests.append(name)
                state.bodies.append(body)
                if state.verbose:
                    print(f"{self.command} {name}", file=sys.stderr, flush=True)
                if state.status is not None:
                    return self.answer(state.status, {"errors": [{"message": "made to fail"}]})
                if self.command != "PUT" and not self.authorized():
                    return self.answer(401, {"errors": [{"message": "user is not logged in"}]})
                if parts == ["graphql"]:
                    try:
                        return self.answer(200, {"data": state.graphql(name, call.get("variables") or {})})
                    except PermissionError as error:
                        return self.answer(200, {"data": None, "errors": [{"message": str(error)}]})
                if parts[0] == "upload":
                    state.runs[parts[1]].files["/".join(parts[2:])] = body
                elif parts[-1] == "file_stream":
                    state.file_stream(parts[3], json.loads(body))
                    return self.answer(200, {"exitcode": None, "limits": {}})
                return self.answer(200, {})

        def authorized(self) -> bool:
            given = self.headers.get("Authorization", "")
            expected = base64.b64encode(f"api:{state.key}".encode()).decode()
            return given in (f"Basic {expected}", f"Bearer {state.key}")

        do_GET = do_POST = do_PUT = serve

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    return Handler


def operation_of(query: str) -> str | None:
    words = query.replace("(", " ").replace("{", " ").split()
    return words[1] if len(words) > 1 and words[0] in ("query", "mutation") else None


def main() -> None:
    with WandbServer(port=int(sys.argv[1]) if len(sys.argv) > 1 else 0, verbose=True) as server:
        for name, value in server.environment.items():
            print(f"export {name}={value}")
        print("Ctrl-C ends it.", file=sys.stderr, flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            for run in server.runs.values():
                print(f"{run.id} {run.name}: {len(run.history)} rows, files {sorted(run.files)}", file=sys.stderr)


if __name__ == "__main__":
    main()

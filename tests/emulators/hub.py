"""The part of the Hugging Face Hub's HTTP API that downloads and uploads use, over folders on this machine.

    python -m tests.emulators.hub FOLDER [PORT]     # then: HF_ENDPOINT=http://127.0.0.1:PORT HF_HUB_DISABLE_XET=1

A repository is a folder `FOLDER/<models|datasets>/<owner>/<name>/<revision>`, in which a slash of the revision's name is
written as `%2F`. Uploads need the bearer token that the server was given and end in the revision they name.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote, urlsplit

API = re.compile(
    r"^/api/(models|datasets)/([^/]+/[^/]+)(?:/(revision|tree|paths-info|preupload|commit)/([^/]+)(?:/(.*))?)?$"
)
RESOLVE = re.compile(r"^/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)$")
LFS_BATCH = re.compile(r"^/(datasets/)?([^/]+/[^/]+)\.git/info/lfs/objects/batch$")
LARGE = 1_000_000  # bytes; what is larger must come as an LFS object


@dataclass
class Hub:
    """What the server holds, and what was asked of it."""

    root: Path
    token: str = "hf_emulator"
    requests: list[str] = field(default_factory=list)
    lfs: dict[str, bytes] = field(default_factory=dict)
    address: str = ""
    fault: int | str | None = (
        None  # the status of every answer, "gated" for files of a gated repository, "cut" for no answer
    )
    left: int | None = None  # requests that the fault is for; None is all

    def failing(self) -> int | str | None:
        """The fault of this request."""
        if self.left is None or self.fault is None:
            return self.fault
        self.left -= 1
        return self.fault if self.left >= 0 else None

    def repository(self, kind: str, name: str) -> Path:
        return self.root / kind / name

    def revision(self, kind: str, name: str, revision: str) -> Path | None:
        """The folder of a branch, or of the commit that a branch stands at."""
        repository = self.repository(kind, name)
        branch = repository / quote(unquote(revision), safe="")
        if branch.is_dir():
            return branch
        branches = repository.iterdir() if repository.is_dir() else ()
        return next((found for found in branches if commit_of(found) == revision), None)


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def commit_of(folder: Path) -> str:
    """40 hex digits that change with the content."""
    digest = hashlib.sha1()
    for path in files_of(folder):
        digest.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def entry(folder: Path, path: Path) -> dict[str, object]:
    if path.is_dir():
        return {"type": "directory", "path": str(path.relative_to(folder)), "oid": "0" * 40, "size": 0}
    oid = hashlib.sha1(path.read_bytes()).hexdigest()
    return {"type": "file", "path": str(path.relative_to(folder)), "oid": oid, "size": path.stat().st_size}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *arguments: object) -> None:
        pass

    # ------------------------------------------------------------------ answers
    def answer(self, status: int, content: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def answer_json(self, value: object, status: int = 200) -> None:
        self.answer(status, json.dumps(value).encode(), Content_Type="application/json")

    def missing(self, code: str) -> None:
        """The error codes that the client library turns into its exceptions."""
        self.answer(404, json.dumps({"error": code}).encode(), X_Error_Code=code, X_Error_Message=code)

    def failed(self) -> bool:
        """Whether this request ends in the fault that a test asked for."""
        fault = self.hub.failing()
        if fault == "cut":
            self.close_connection = True
        elif fault == "gated" and "/resolve/" in self.path:
            self.answer(401, X_Error_Code="GatedRepo", X_Error_Message="Access to it is restricted")
        elif fault == 429:
            self.answer(429, Retry_After="7")
        elif isinstance(fault, int):
            self.answer(fault)
        else:
            return False
        return True

    # ------------------------------------------------------------------ requests
    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        self.hub.requests.append(f"{self.command} {self.path}")
        if self.failed():
            return
        if url.path == "/api/whoami-v2":
            return self.who()
        if match := RESOLVE.match(url.path):
            return self.file("datasets" if match[1] else "models", match[2], match[3], unquote(match[4]))
        match = API.match(url.path)
        if not match:
            return self.missing("EntryNotFound")
        kind, name, action, revision, path = match[1], match[2], match[3], match[4] or "main", match[5] or ""
        if not self.hub.repository(kind, name).is_dir():
            return self.missing("RepoNotFound")
        folder = self.hub.revision(kind, name, revision)
        if folder is None:
            return self.missing("RevisionNotFound")
        if action == "tree":
            top = folder / unquote(path)
            if not top.is_dir():
                return self.missing("EntryNotFound")
            recursive = parse_qs(url.query).get("recursive", ["false"])[0].lower() in ("true", "1")
            return self.answer_json(
                [entry(folder, found) for found in sorted(top.rglob("*") if recursive else top.iterdir())]
            )
        siblings = [{"rfilename": str(found.relative_to(folder))} for found in files_of(folder)]
        return self.answer_json(
            {"id": name, "sha": commit_of(folder), "siblings": siblings, "private": False, "tags": []}
        )

    def do_POST(self) -> None:
        url = urlsplit(self.path)
        self.hub.requests.append(f"POST {self.path}")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        match = API.match(url.path)
        if match and match[3] == "paths-info":
            return self.paths_info(match, body)
        if self.headers.get("Authorization") != f"Bearer {self.hub.token}":
            return self.answer_json({"error": "Invalid credentials in Authorization header"}, 401)
        if url.path == "/api/repos/create":
            wanted = json.loads(body)
            kind = f"{wanted.get('type') or 'model'}s"
            name = f"{wanted.get('organization') or 'someone'}/{wanted['name']}"
            (self.hub.repository(kind, name) / "main").mkdir(parents=True, exist_ok=True)
            return self.answer_json({"url": f"{self.hub.address}/{name}", "id": name})
        if url.path == "/api/validate-yaml":
            return self.answer_json({"errors": [], "warnings": []})
        if match and match[3] == "preupload":
            files = json.loads(body)["files"]
            modes = [
                {"path": f["path"], "uploadMode": "lfs" if f["size"] > LARGE else "regular", "shouldIgnore": False}
                for f in files
            ]
            return self.answer_json({"files": modes})
        if match and match[3] == "commit":
            return self.commit(match, body)
        if LFS_BATCH.match(url.path):
            objects = [
                {**wanted, "actions": {"upload": {"href": f"{self.hub.address}/lfs/{wanted['oid']}", "header": {}}}}
                for wanted in json.loads(body)["objects"]
            ]
            return self.answer_json({"transfer": "basic", "objects": objects})
        return self.missing("EntryNotFound")

    def do_PUT(self) -> None:
        self.hub.lfs[self.path.rsplit("/", 1)[-1]] = self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(200)

    # ------------------------------------------------------------------ actions
    def who(self) -> None:
        if self.headers.get("Authorization") != f"Bearer {self.hub.token}":
            return self.answer_json({"error": "Invalid user token."}, 401)
        return self.answer_json(
            {"type": "user", "name": "someone", "orgs": [], "auth": {"accessToken": {"role": "write"}}}
        )

    def file(self, kind: str, name: str, revision: str, path: str) -> None:
        if not self.hub.repository(kind, name).is_dir():
            return self.missing("RepoNotFound")
        folder = self.hub.revision(kind, name, revision)
        if folder is None:
            return self.missing("RevisionNotFound")
        target = folder / path
        if not target.is_file():
            return self.missing("EntryNotFound")
        content = target.read_bytes()
        facts = {
            "ETag": f'"{hashlib.sha1(content).hexdigest()}"',
            "X_Repo_Commit": commit_of(folder),
            "Accept_Ranges": "bytes",
        }
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not asked:
            return self.answer(200, content, **facts)
        first, last = int(asked[1]), min(int(asked[2] or len(content) - 1), len(content) - 1)
        span = f"bytes {first}-{last}/{len(content)}"
        return self.answer(206, content[first : last + 1], Content_Range=span, **facts)

    def paths_info(self, match: re.Match[str], body: bytes) -> None:
        folder = self.hub.revision(match[1], match[2], match[4])
        if folder is None:
            return self.missing("RevisionNotFound")
        form = json.loads(body) if body.startswith(b"{") else parse_qs(body.decode())
        paths = form["paths"]
        wanted = [folder / path for path in ([paths] if isinstance(paths, str) else paths)]
        return self.answer_json([entry(folder, path) for path in wanted if path.exists()])

    def commit(self, match: re.Match[str], body: bytes) -> None:
        folder = self.hub.repository(match[1], match[2]) / quote(unquote(match[4]), safe="")
        for line in body.splitlines():
            step = json.loads(line)
            value = step["value"]
            if step["key"] == "file":
                content = base64.b64decode(value["content"])
            elif step["key"] == "lfsFile":
                content = self.hub.lfs[value["oid"]]
            else:
                continue
            (folder / value["path"]).parent.mkdir(parents=True, exist_ok=True)
            (folder / value["path"]).write_bytes(content)
        commit = commit_of(folder)
        self.answer_json(
            {"success": True, "commitOid": commit, "commitUrl": f"{self.hub.address}/{match[2]}/commit/{commit}"}
        )


def library_settings(address: str, cache: Path) -> list[tuple[object, str, object]]:
    """Module, name and value of what the hub's libraries made of HF_ENDPOINT and HF_HOME when they were imported.

    For a process that has imported them before the address was known.
    """
    import datasets.config
    from huggingface_hub import constants

    return [
        (constants, "ENDPOINT", address),
        (constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}"),
        (constants, "HF_HUB_CACHE", str(cache)),
        (constants, "HF_HUB_DISABLE_XET", True),
        (datasets.config, "HF_ENDPOINT", address),
        (datasets.config, "HF_DATASETS_CACHE", str(cache / "datasets")),
    ]


@contextmanager
def serve(root: Path, port: int = 0) -> Iterator[Hub]:
    """A running hub over the folder; port 0 takes any free one."""
    hub = Hub(root)
    server = ThreadingHTTPServer(("127.0.0.1", port), type("Bound", (Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.address = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


if __name__ == "__main__":
    with serve(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0) as running:
        print(f"HF_ENDPOINT={running.address} HF_HUB_DISABLE_XET=1", flush=True)
        threading.Event().wait()

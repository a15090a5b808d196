"""A stand-in for the API of the Hugging Face hub: repositories are made, committed to, listed and downloaded."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Repositories = dict[str, dict[str, bytes]]
SHA = "0123456789abcdef0123456789abcdef01234567"


class _Handler(BaseHTTPRequestHandler):
    repositories: Repositories

    def log_message(self, *_: object) -> None:
        pass

    def _send(self, content: bytes, kind: str = "application/json", code: int = 200, **headers: str) -> None:
        self.send_response(code)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _json(self, value: Any, code: int = 200) -> None:
        self._send(json.dumps(value).encode(), code=code)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        if self.path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}" if asked.get("organization") else asked["name"]
            if name.startswith("forbidden/"):
                self._json({"error": "no"}, 403)
                return
            self.repositories.setdefault(name, {})
            self._json({"url": f"http://{self.headers['Host']}/{name}", "id": name})
        elif self.path == "/api/validate-yaml":
            self._json({"errors": [], "warnings": []})
        elif "/preupload/" in self.path:
            files = [file["path"] for file in json.loads(body)["files"]]
            self._json(
                {"files": [{"path": f, "uploadMode": "regular", "shouldIgnore": False} for f in files]}
            )
        elif "/commit/" in self.path:
            repository = self.repositories["/".join(self.path.split("/")[3:5])]
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    repository[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            url = f"http://{self.headers['Host']}/{'/'.join(self.path.split('/')[3:5])}/commit/{SHA}"
            self._json({"commitUrl": url, "commitOid": SHA})
        else:
            self._json({"error": self.path}, 404)

    def do_GET(self) -> None:
        parts = self.path.partition("?")[0].strip("/").split("/")
        api = parts[:2] == ["api", "models"]
        name = "/".join(parts[2:4] if api else parts[:2])
        if name not in self.repositories:
            self._send(b"{}", code=404, X_Error_Code="RepoNotFound")
        elif api and parts[4:5] == ["tree"]:
            files = self.repositories[name].items()
            self._json([{"type": "file", "path": path, "size": len(c), "oid": SHA} for path, c in files])
        elif api:
            siblings = [{"rfilename": path} for path in self.repositories[name]]
            self._json({"id": name, "sha": SHA, "siblings": siblings, "tags": [], "private": False})
        elif (path := "/".join(parts[4:])) in self.repositories[name]:
            content = self.repositories[name][path]
            etag = f'"{hashlib.sha256(content).hexdigest()}"'
            self._send(content, "application/octet-stream", ETag=etag, X_Repo_Commit=SHA)
        else:
            self._send(b"{}", code=404, X_Error_Code="EntryNotFound", X_Repo_Commit=SHA)

    do_HEAD = do_GET


@contextmanager
def hub_server() -> Iterator[tuple[str, Repositories]]:
    """The address of a hub of this machine, and what its repositories hold."""
    repositories: Repositories = {}
    server = ThreadingHTTPServer(
        ("127.0.0.1", 0), type("Handler", (_Handler,), {"repositories": repositories})
    )
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", repositories
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

"""A wandb service on this machine, for tests: what wandb's own client sends to it, kept.

It answers what the client asks for while it sends a run, and `Api().run`. Lines of a run's history
that are sent again from an offset take the place of those that were there from it on, as the
service's do (wandb's issues 3841 and 5865 complain of it). Listens on 127.0.0.1 only.
"""

import gzip
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ENTITY = "someone"
USER = {"name": ENTITY, "username": ENTITY}


class Service:
    """What was sent: runs by (project, id); artefacts by id; (run, artefact) pairs of inputs."""

    def __init__(self) -> None:
        self.runs: dict[tuple[str, str], dict[str, Any]] = {}
        self.artefacts: dict[str, dict[str, Any]] = {}
        self.used: list[tuple[str, str]] = []
        self.files: dict[str, bytes] = {}  # uploads by the last part of their address
        self.lines = 0  # of history, received
        self.gaps: list[str] = []  # questions that it could not answer
        self.broken = False  # answer no question
        self.address = ""
        self.lock = threading.Lock()

    def run(self, project: str, id: str) -> dict[str, Any]:
        return self.runs[project, id]

    def history(self, project: str, id: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.runs[project, id]["history"]]

    def summary(self, project: str, id: str) -> dict[str, Any]:
        return json.loads(self.runs[project, id]["summary"])

    def config(self, project: str, id: str) -> dict[str, Any]:
        found = json.loads(self.runs[project, id]["config"])
        return {name: entry["value"] for name, entry in found.items() if name != "_wandb"}

    def graphql(self, query: str, given: dict[str, Any]) -> dict[str, Any]:
        asked = given.get("input") or {}
        match next((word for word in ANSWERS if word in query), ""):
            case "upsertBucket":
                return {"upsertBucket": {"bucket": self._upsert(given), "inserted": True}}
            case "createRunFiles":
                files = [{"name": f, "uploadUrl": self._place(f)} for f in given["files"]]
                return {"createRunFiles": {"runID": "r", "uploadHeaders": [], "files": files}}
            case "ArtifactType(":
                return {"project": {"artifact": None}}
            case "ArtifactByID":
                return self._artefact(given)
            case "createArtifactManifest":
                place = self._place(f"manifest-{given['artifactID']}")
                file = {"id": "f", "uploadUrl": place, "uploadHeaders": []}
                return {"createArtifactManifest": {"artifactManifest": {"id": "m", "file": file}}}
            case "createArtifactFiles":
                nodes = [{"node": self._file(each)} for each in asked["artifactFiles"]]
                return {"createArtifactFiles": {"files": {"edges": nodes}}}
            case "commitArtifact":
                artefact = self.artefacts[given["artifactID"]]
                artefact["state"] = "COMMITTED"
                return {"commitArtifact": {"artifact": {"id": given["artifactID"], "digest": "d"}}}
            case "createArtifact(":
                return {"createArtifact": {"artifact": self._create(asked)}}
            case "useArtifact":
                self.used.append((asked["runName"], asked["artifactID"]))
                return {"useArtifact": {"artifact": {"id": asked["artifactID"]}}}
            case "historyKeys":
                run = self.runs.get((given["project"], given["name"]))
                return {"project": {"run": run and self._shown(given["name"], run)}}
            case "RunResumeStatus":
                run = self.runs.get((given["project"], given["name"]))
                project = {
                    "id": "p",
                    "name": given["project"],
                    "entity": {"id": "e", "name": ENTITY},
                }
                return {"model": {**project, "bucket": run and self._resumed(given["name"], run)}}
            case "viewer":
                person = {"id": "u", "entity": ENTITY, "username": ENTITY, "flags": "{}"}
                return {"viewer": {**person, "teams": {"edges": []}}}
            case "serverInfo":
                return {"serverInfo": {"features": [], "cliVersionInfo": {}}}
        raise LookupError("no answer")

    def _upsert(self, given: dict[str, Any]) -> dict[str, Any]:
        run = self.runs.setdefault(
            (given["project"], given["name"]),
            {"history": [], "summary": "{}", "config": "{}", "exitcode": None, "preempting": False},
        )
        names = ("config", "groupName", "jobType", "tags", "displayName")
        run |= {name: given[name] for name in names if given.get(name) is not None}
        project = {"id": "p", "name": given["project"], "entity": {"id": "e", "name": ENTITY}}
        return {
            "id": "r",
            "name": given["name"],
            "displayName": given["displayName"],
            "config": "{}",
            "project": project,
            "historyLineCount": len(run["history"]),
        }

    def _resumed(self, name: str, run: dict[str, Any]) -> dict[str, Any]:
        return {
            "id": "r",
            "name": name,
            "displayName": name,
            "summaryMetrics": run["summary"],
            "config": run["config"],
            "tags": run.get("tags"),
            "logLineCount": 0,
            "eventsLineCount": 0,
            "historyLineCount": len(run["history"]),
            "historyTail": json.dumps(run["history"][-1:]),
            "eventsTail": "[]",
            "wandbConfig": '{"t": 1}',
        }

    def _shown(self, name: str, run: dict[str, Any]) -> dict[str, Any]:
        shown = {"id": "r", "name": name, "tags": [], "state": "finished", "config": run["config"]}
        return {
            **shown,
            "summaryMetrics": run["summary"],
            "historyKeys": self._keys(run),
            "user": USER,
        }

    def _keys(self, run: dict[str, Any]) -> dict[str, Any] | None:
        steps = [json.loads(line)["_step"] for line in run["history"]]
        return {"lastStep": steps[-1]} if steps else None

    def _create(self, asked: dict[str, Any]) -> dict[str, Any]:
        known = (asked["artifactCollectionName"], asked["digest"])
        for id, artefact in self.artefacts.items():
            if artefact["known"] == known:  # the same content is the same version
                return self._created(id, artefact["state"])
        id = f"a{len(self.artefacts)}"
        self.artefacts[id] = {
            "known": known,
            "name": asked["artifactCollectionName"],
            "metadata": json.loads(asked["metadata"] or "{}"),
            "digest": asked["digest"],
            "state": "PENDING",
            "uploaded": [],
        }
        return self._created(id, "PENDING")

    def _created(self, id: str, state: str) -> dict[str, Any]:
        return {"id": id, "state": state, "artifactSequence": {"latestArtifact": None}}

    def _file(self, asked: dict[str, Any]) -> dict[str, Any]:
        self.artefacts[asked["artifactID"]]["uploaded"].append(asked["name"])
        place = self._place(f"{asked['artifactID']}-{asked['name'].replace('/', '-')}")
        found = {"storagePath": "s", "uploadUrl": place, "uploadHeaders": []}
        return {**found, "uploadMultipartUrls": None, "artifact": {"id": asked["artifactID"]}}

    def _artefact(self, given: dict[str, Any]) -> dict[str, Any]:
        artefact = self.artefacts[given["id"]]
        project = {"id": "p", "internalId": "p", "name": "p", "entity": {"name": ENTITY}}
        sequence = {"__typename": "ArtifactSequence", "name": artefact["name"], "project": project}
        return {
            "artifact": {
                "__typename": "Artifact",
                "id": given["id"],
                "artifactSequence": sequence,
                "versionIndex": 0,
                "artifactType": {"name": "model"},
                "description": None,
                "metadata": json.dumps(artefact["metadata"]),
                "ttlDurationSeconds": -2,
                "ttlIsInherited": False,
                "tags": [],
                "historyStep": None,
                "state": artefact["state"],
                "size": 0,
                "digest": artefact["digest"],
                "commitHash": "c",
                "fileCount": 0,
                "createdAt": "2026-01-01T00:00:00Z",
                "updatedAt": None,
                "aliases": [],
            }
        }

    def _place(self, name: str) -> str:
        return f"{self.address}/uploads/{name}"

    def stream(self, project: str, id: str, sent: dict[str, Any]) -> None:
        run = self.runs[project, id]
        for name, chunk in (sent.get("files") or {}).items():
            if name == "wandb-history.jsonl":
                self.lines += len(chunk["content"])
                run["history"][chunk["offset"] :] = chunk["content"]
            elif name == "wandb-summary.json":
                run["summary"] = chunk["content"][-1]
        run["preempting"] |= bool(sent.get("preempting"))
        if sent.get("complete"):
            run["exitcode"] = sent["exitcode"]


# what a question is known by, the longer words first
ANSWERS = (
    "upsertBucket", "createRunFiles", "ArtifactType(", "ArtifactByID", "createArtifactManifest",
    "createArtifactFiles", "commitArtifact", "createArtifact(", "useArtifact", "RunResumeStatus",
    "historyKeys", "viewer", "serverInfo",
)  # fmt: skip


@contextmanager
def serving() -> Iterator[Service]:
    """A service at `.address` while the block lasts."""
    service = Service()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def _body(self) -> bytes:
            sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            return gzip.decompress(sent) if self.headers.get("Content-Encoding") == "gzip" else sent

        def _answer(self, answer: Any, status: int = 200) -> None:
            text = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def _graphql(self, asked: dict[str, Any]) -> None:
            try:
                answer = service.graphql(asked["query"], asked.get("variables") or {})
            except Exception as error:  # a gap of this fake; unanswered, the client would wait
                service.gaps.append(f"{type(error).__name__}: {error} in {asked['query'][:300]}")
                self._answer({"errors": [{"message": service.gaps[-1]}]}, 400)
            else:
                self._answer({"data": answer})

        def do_GET(self) -> None:
            self._answer({})

        def do_PUT(self) -> None:
            service.files[self.path.rpartition("/")[2]] = self._body()
            self._answer({})

        def do_POST(self) -> None:
            sent = self._body()
            with service.lock:
                if service.broken:
                    self._answer({"errors": [{"message": "out of order"}]}, 400)
                elif self.path.endswith("/graphql"):
                    self._graphql(json.loads(sent))
                elif self.path.endswith("/file_stream"):
                    _, _, _, project, id, _ = self.path.split("/")
                    service.stream(project, id, json.loads(sent))
                    self._answer({"exitcode": None, "limits": {}})
                else:  # telemetry of the client
                    self._answer({})

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            """The client hangs up when it is done; what it did not get, it says itself."""

    server = Server(("127.0.0.1", 0), Handler)
    service.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield service
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

"""A stand-in for a cluster of one node: the part of Kubernetes' API that Airflow's provider uses, a kubelet.

Pods really run: as processes in sandboxes that do what the manifest says (`pod_sandbox`), with variables from
the Secrets and ConfigMaps that a test has put there. A pod that is deleted gets SIGTERM, and SIGKILL when its
grace period is over. Requests that it does not know are answered 404, and kept in `unknown`.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import psutil
import yaml

from support.image_build import Image
from support.pod_sandbox import sandboxed


def now() -> str:
    """A time as Kubernetes writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Pod:
    """A pod and its one container."""

    def __init__(self, manifest: dict[str, Any]) -> None:
        self.manifest = manifest
        self.lines: list[tuple[str, str]] = []
        self.ended = threading.Event()
        self.status: dict[str, Any] = {"phase": "Pending", "startTime": now()}
        self.signalled_at: float | None = None
        self.leaves_at: str | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._changed = threading.Condition()

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.manifest["metadata"]["name"])

    def shown(self) -> dict[str, Any]:
        """As the API shows it."""
        leaves = {"deletionTimestamp": self.leaves_at} if self.leaves_at else {}
        return {
            **self.manifest,
            "metadata": self.manifest["metadata"] | leaves,
            "status": self.status,
        }

    def start(self, argv: Sequence[str], environment: Mapping[str, str], termination_log: Path) -> None:
        """Run the container."""
        self._process = subprocess.Popen(
            argv,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self._show({"running": {"startedAt": now()}}, "Running")
        threading.Thread(target=self._follow, args=(termination_log,), daemon=True).start()

    def log(self, *, follow: bool, since_s: int | None = None) -> Iterator[str]:
        """Lines with their times; while it runs, as they come."""
        sent = 0
        if since_s is not None:
            first = (datetime.now(UTC) - timedelta(seconds=since_s)).isoformat()
            sent = sum(at < first for at, _ in self.lines)
        while True:
            with self._changed:
                while follow and sent == len(self.lines) and not self.ended.is_set():
                    self._changed.wait(0.2)
                fresh, over = self.lines[sent:], self.ended.is_set()
            yield from (f"{at} {line}\n" for at, line in fresh)
            sent += len(fresh)
            if not follow or (over and sent == len(self.lines)):
                return

    def delete(self, grace_s: float) -> None:
        """SIGTERM for the container's first process; SIGKILL later, if it is still there."""
        self.signalled_at = time.monotonic()
        first = self._first_process()
        if first is not None:
            with contextlib.suppress(psutil.NoSuchProcess):
                first.terminate()
        if not self.ended.wait(grace_s) and self._process is not None:
            self._process.kill()
            self.ended.wait(10)

    def _first_process(self) -> psutil.Process | None:
        """The one that has the number 1 in there."""
        if self._process is None or self.ended.is_set():
            return None
        try:
            return next(iter(psutil.Process(self._process.pid).children()), None)
        except psutil.NoSuchProcess:
            return None

    def _follow(self, termination_log: Path) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        for line in self._process.stdout:
            at = datetime.now(UTC).isoformat().replace("+00:00", "Z")
            with self._changed:
                self.lines.append((at, line.decode(errors="replace").rstrip("\n")))
                self._changed.notify_all()
        self._process.stdout.close()
        code = self._process.wait()
        message = termination_log.read_text()[:4096]
        if not message and code != 0:  # terminationMessagePolicy: FallbackToLogsOnError
            message = "\n".join(line for _, line in self.lines[-80:])[-2048:]
        ended = {"exitCode": code, "reason": "Error" if code else "Completed", "finishedAt": now()}
        self._show({"terminated": ended | {"message": message}}, "Failed" if code else "Succeeded")
        with self._changed:
            self.ended.set()
            self._changed.notify_all()

    def _show(self, state: dict[str, Any], phase: str) -> None:
        container = {
            "name": self.manifest["spec"]["containers"][0]["name"],
            "image": self.manifest["spec"]["containers"][0]["image"],
            "imageID": "",
            "ready": phase == "Running",
            "restartCount": 0,
            "state": state,
        }
        self.status = {**self.status, "phase": phase, "containerStatuses": [container]}


class ClusterDouble:
    """The cluster.

    Args:
        folder: For its files.
        images: Image → entry point.
        image_folders: Folders of the host that are part of all images.

    Attributes:
        created: Manifests of all pods that were asked for.
        deleted: Names of pods that were deleted, with the grace period that was asked for.
        secrets: Name → what is in it; `config_maps` the same.
        refused: Images whose pods are refused, and the status.
        unknown: Requests that it did not know.
        layers: Image that was built → what it has in the place of the host's files.
        environments: Image → its variables.
        said: Name of a pod that was deleted → the lines of its log.
    """

    def __init__(self, folder: Path, images: Mapping[str, list[str]], image_folders: Sequence[Path]) -> None:
        self.created: list[dict[str, Any]] = []
        self.deleted: list[tuple[str, float]] = []
        self.secrets: dict[str, dict[str, str]] = {}
        self.config_maps: dict[str, dict[str, str]] = {}
        self.refused: dict[str, int] = {}
        self.unknown: list[str] = []
        self.pods: dict[str, Pod] = {}
        self.said: dict[str, list[str]] = {}
        self.layers: dict[str, Path] = {}
        self.environments: dict[str, dict[str, str]] = {}
        self._folder, self._images, self._image_folders = folder, dict(images), list(image_folders)
        self._closed = threading.Event()
        double = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.0"

            def do_GET(self) -> None:
                double.answer(self, "GET")

            def do_POST(self) -> None:
                double.answer(self, "POST")

            def do_PATCH(self) -> None:
                double.answer(self, "PATCH")

            def do_DELETE(self) -> None:
                double.answer(self, "DELETE")

            def log_message(self, *_arguments: Any) -> None:
                """Nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        ).start()

    def add_image(self, name: str, image: Image) -> None:
        """An image that was built."""
        self._images[name] = image.entry_point
        self.layers[name], self.environments[name] = image.layer, image.environment
        self._image_folders.append(image.python)

    def close(self) -> None:
        """End it, and all pods."""
        self._closed.set()
        self._server.shutdown()
        self._server.server_close()
        for pod in list(self.pods.values()):
            pod.delete(0)

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def kubeconfig(self) -> Path:
        """The configuration of a client."""
        path = self._folder / "kubeconfig"
        path.write_text(
            yaml.safe_dump(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "clusters": [{"name": "double", "cluster": {"server": self.url}}],
                    "users": [{"name": "airflow", "user": {"token": "a-token"}}],
                    "contexts": [{"name": "double", "context": {"cluster": "double", "user": "airflow"}}],
                    "current-context": "double",
                }
            )
        )
        return path

    # ---- the API -----------------------------------------------------------------------------------------

    def answer(self, handler: BaseHTTPRequestHandler, method: str) -> None:
        """Answer one request."""
        url = urlsplit(handler.path)
        query = {name: values[-1] for name, values in parse_qs(url.query).items()}
        length = int(handler.headers.get("Content-Length") or 0)
        body = json.loads(handler.rfile.read(length)) if length else {}
        match method, url.path.strip("/").split("/"):
            case "POST", ["api", "v1", "namespaces", namespace, "pods"]:
                _send(handler, *self._create(namespace, body))
            case "GET", ["api", "v1", "namespaces", namespace, "pods"]:
                found = [
                    p.shown() for p in self.pods.values() if _selected(p, query.get("labelSelector", ""))
                ]
                _send(handler, 200, {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": found})
            case "GET", ["api", "v1", "namespaces", _, "events"] if query.get("watch") == "True":
                self._watch_nothing(handler, float(query.get("timeoutSeconds", 5)))
            case "GET", ["apis", "events.k8s.io", "v1", "namespaces", _, "events"]:
                _send(handler, 200, {"kind": "EventList", "metadata": {}, "items": []})
            case "GET", ["api", "v1", "namespaces", _, "events"]:
                _send(handler, 200, {"kind": "EventList", "metadata": {}, "items": []})
            case _, ["api", "v1", "namespaces", _, "pods", name, *rest] if name in self.pods:
                self._answer_pod(handler, method, self.pods[name], rest, query, body)
            case _, ["api", "v1", "namespaces", _, "pods", name, *_] if name in self.said:
                _send(handler, 404, _status(404, "NotFound", f"{name} was deleted"))
            case _:
                self.unknown.append(f"{method} {handler.path}")
                _send(handler, 404, _status(404, "NotFound", f"{method} {url.path}"))

    def _answer_pod(
        self,
        handler: BaseHTTPRequestHandler,
        method: str,
        pod: Pod,
        rest: list[str],
        query: Mapping[str, str],
        body: Mapping[str, Any],
    ) -> None:
        if (method, rest) == ("GET", []):
            _send(handler, 200, pod.shown())
        elif (method, rest) == ("GET", ["log"]):
            handler.send_response(200)
            handler.send_header("Content-Type", "text/plain")
            handler.end_headers()
            since_s = int(query["sinceSeconds"]) if "sinceSeconds" in query else None
            for line in pod.log(follow=query.get("follow") == "true", since_s=since_s):
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    handler.wfile.write(line.encode())
                    handler.wfile.flush()
        elif (method, rest) == ("PATCH", []):
            pod.manifest["metadata"]["labels"] |= body["metadata"]["labels"]
            _send(handler, 200, pod.shown())
        elif (method, rest) == ("DELETE", []):
            asked = query.get("gracePeriodSeconds", body.get("gracePeriodSeconds"))
            grace_s = float(pod.manifest["spec"]["terminationGracePeriodSeconds"] if asked is None else asked)
            self.deleted.append((pod.name, grace_s))
            pod.leaves_at = pod.leaves_at or now()
            threading.Thread(target=self._delete, args=(pod, grace_s), daemon=True).start()
            _send(handler, 200, pod.shown())

    def _watch_nothing(self, handler: BaseHTTPRequestHandler, seconds: float) -> None:
        """There are no events; a watch ends when its time is over."""
        handler.send_response(200)
        handler.send_header("Content-Type", "application/json")
        handler.end_headers()
        self._closed.wait(seconds)

    def _delete(self, pod: Pod, grace_s: float) -> None:
        pod.delete(grace_s)
        self.said[pod.name] = [line for _, line in pod.lines]
        self.pods.pop(pod.name, None)

    # ---- the node ----------------------------------------------------------------------------------------

    def _create(self, namespace: str, manifest: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        self.created.append(json.loads(json.dumps(manifest)))
        image = manifest["spec"]["containers"][0]["image"]
        if image in self.refused:
            return self.refused[image], _status(self.refused[image], "Invalid", "the pod is refused")
        manifest["metadata"] |= {"namespace": namespace, "uid": str(uuid4()), "creationTimestamp": now()}
        pod = Pod(manifest)
        container = manifest["spec"]["containers"][0]
        self.pods[pod.name] = pod
        entry_point = container.get("command") or self._images[container["image"]]
        command = [*entry_point, *container.get("args", [])]
        termination_log = self._folder / f"{pod.name}.termination"
        termination_log.touch()
        termination_log.chmod(0o666)
        layer = self.layers.get(container["image"])
        argv = sandboxed(manifest, command, termination_log, self._image_folders, layer)
        pod.start(argv, self._environment(container), termination_log)
        return 201, pod.shown()

    def _environment(self, container: Mapping[str, Any]) -> dict[str, str]:
        """As a container has it: nothing of the host's; `HOME` as runtimes set it for a user without one."""
        variables = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/", "HOSTNAME": "pod"}
        variables |= self.environments.get(container["image"], {})
        for source in container.get("envFrom", []):
            if "secretRef" in source:
                variables |= self.secrets[source["secretRef"]["name"]]
            else:
                variables |= self.config_maps[source["configMapRef"]["name"]]
        return variables | {one["name"]: one.get("value") or "" for one in container.get("env", [])}


def _selected(pod: Pod, selector: str) -> bool:
    """Whether its labels are as `a=b,c!=d,!e` says."""
    labels = pod.manifest["metadata"].get("labels", {})
    for part in filter(None, selector.split(",")):
        if part.startswith("!"):
            holds = part[1:] not in labels
        elif "!=" in part:
            name, value = part.split("!=")
            holds = labels.get(name) != value
        else:
            name, value = part.split("=")
            holds = labels.get(name) == value
        if not holds:
            return False
    return True


def _status(code: int, reason: str, message: str) -> dict[str, Any]:
    return {"kind": "Status", "apiVersion": "v1", "code": code, "reason": reason, "message": message}


def _send(handler: BaseHTTPRequestHandler, status: int, body: Mapping[str, Any]) -> None:
    text = json.dumps(body).encode()
    handler.send_response(status)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(text)))
    handler.end_headers()
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # a client that was ended
        handler.wfile.write(text)

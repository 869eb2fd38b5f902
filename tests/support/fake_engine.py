"""A container engine in this process: what runs in it is no child of the command that asked for it.

There is no container: an image is a program of this machine, which sees paths of this machine in place of the
mounted ones. But it lives like one: apart from the command (`fake_docker.py`), which may be killed without
it, with its output taken whether anybody reads it or not, and with the environment that `--env` says.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

COMMAND = Path(__file__).with_name("fake_docker.py")
FLAGS = {"--rm", "-i", "--init"}
PLENTY = 64 * 1024


class FakeEngine:
    """The service.

    Attributes:
        images: Reference → program, of those that are here.
        registry: The same, of those that can be pulled.
        ran: The arguments of each `run`.
        containers: Name → what runs.
        may_pull: Pulls wait for it.
    """

    def __init__(self, folder: Path) -> None:
        self.images: dict[str, list[str]] = {}
        self.registry: dict[str, list[str]] = {}
        self.ran: list[list[str]] = []
        self.containers: dict[str, subprocess.Popen[bytes]] = {}
        self.may_pull = threading.Event()
        self.may_pull.set()
        self.bin = folder / "bin"
        self.bin.mkdir()
        (self.bin / "docker").symlink_to(COMMAND)
        self.address = folder / "engine.sock"
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(self.address))
        self._listening.listen()

    def serve(self) -> None:
        """Answer until the socket is closed."""
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def close(self) -> None:
        """End the service, and what still runs."""
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for container in list(self.containers.values()):
            container.kill()

    def _answer(self, connection: socket.socket) -> None:
        with connection:
            data, descriptors, _, _ = socket.recv_fds(connection, PLENTY, 2)
            command = json.loads(data)["command"]
            with contextlib.ExitStack() as opened:
                outputs = [opened.enter_context(os.fdopen(d, "wb", buffering=0)) for d in descriptors]
                answer = self._do(command, outputs)
            with contextlib.suppress(OSError):  # the command was killed
                connection.sendall(json.dumps(answer).encode() + b"\n")

    def _do(self, command: list[str], outputs: list[Any]) -> dict[str, Any]:
        match command:
            case ["image", "inspect", image]:
                there = image in self.images
                return {"code": 0} if there else {"code": 1, "error": f"Error: No such image: {image}\n"}
            case ["pull", image]:
                self.may_pull.wait(30)
                if image not in self.registry:
                    return {"code": 1, "error": f"https://me:s3cr3t@registry.invalid: {image} is not known\n"}
                self.images[image] = self.registry[image]
                return {"code": 0}
            case ["rm", "--force", "--volumes", name]:
                return self._signal(name, signal.SIGKILL)
            case ["kill", name]:
                return self._signal(name, signal.SIGTERM)
            case ["run", *arguments]:
                self.ran.append(arguments)
                return {"code": self._run(arguments, outputs)}
        return {"code": 125, "error": f"unknown command {command}\n"}

    def _signal(self, name: str, number: signal.Signals) -> dict[str, Any]:
        container = self.containers.get(name)
        if container is None:
            return {"code": 1, "error": f"Error: No such container: {name}\n"}
        with contextlib.suppress(ProcessLookupError):
            os.killpg(container.pid, number)
        return {"code": 0}

    def _run(self, arguments: list[str], outputs: list[IO[bytes]]) -> int:
        options, image, rest = parsed(arguments)
        mounts = {v.split(":")[1]: v.split(":")[0] for v in options.get("--volume", [])}
        env = dict(e.split("=", 1) for e in options["--env"] if "=" in e)
        container = subprocess.Popen(
            [*self.images[image], *(outside(part, mounts) for part in rest)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={"PATH": os.environ["PATH"]} | {k: outside(v, mounts) for k, v in env.items()},
            cwd="/",
            start_new_session=True,
        )
        (name,) = options["--name"]
        self.containers[name] = container
        streams = (container.stdout, container.stderr)
        taking = [
            threading.Thread(target=pour, args=(stream, output))
            for stream, output in zip(streams, outputs, strict=True)
        ]
        for thread in taking:
            thread.start()
        for thread in taking:
            thread.join()
        code = container.wait()
        del self.containers[name]  # --rm
        return code if code >= 0 else 128 - code


def parsed(arguments: list[str]) -> tuple[dict[str, list[str]], str, list[str]]:
    """Options, image, and what follows it."""
    options: dict[str, list[str]] = {}
    at = 0
    while arguments[at].startswith("-"):
        if arguments[at] in FLAGS:
            at += 1
        else:
            options.setdefault(arguments[at], []).append(arguments[at + 1])
            at += 2
    return options, arguments[at], arguments[at + 1 :]


def outside(path: str, mounts: dict[str, str]) -> str:
    """A path in the container as this machine calls it."""
    for inside, host in mounts.items():
        if path == inside or path.startswith(f"{inside}/"):
            return host + path.removeprefix(inside)
    return path


def pour(source: IO[bytes] | None, target: IO[bytes]) -> None:
    """Take all of a stream, also when nobody wants it any more."""
    assert source is not None
    with source:
        while chunk := source.read1(PLENTY):  # type: ignore[attr-defined]  # of a pipe
            with contextlib.suppress(OSError):
                target.write(chunk)


@contextlib.contextmanager
def running_engine(folder: Path) -> Iterator[FakeEngine]:
    """The engine, while the block lasts."""
    engine = FakeEngine(folder)
    thread = threading.Thread(target=engine.serve, daemon=True)
    thread.start()
    try:
        yield engine
    finally:
        engine.close()
        thread.join(10)

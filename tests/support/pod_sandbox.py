"""A process as it is in a pod: what a container runtime does of a pod's manifest, with namespaces of Linux.

The file system is read-only where the manifest says so, `/tmp` and other volumes are the pod's own, the user
is the manifest's, without privileges, without a home, and the process is the first of its own PID namespace.
Folders that stand for the image (the interpreter, this installation) are there, read-only.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
COVERED = ("/tmp", "/root", "/home")
"""A pod sees nothing of these: no home of anybody, no temporary files of others."""


@cache
def why_not() -> str | None:
    """Why there can be no sandbox here; None if there can."""
    if os.geteuid() != 0:
        return "only root may make a sandbox"
    if not all(shutil.which(tool) for tool in ("unshare", "setpriv", "mount")):
        return "unshare, setpriv and mount (util-linux) are needed"
    command = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "mount", "--make-rprivate", "/"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else f"namespaces cannot be made: {done.stderr.strip()[-200:]}"


def image_folders() -> list[Path]:
    """What the image would hold: the interpreter, this environment, the sources that it is installed from."""
    return [Path(sys.base_prefix), ROOT]


def sandboxed(
    manifest: Mapping[str, Any],
    command: Sequence[str],
    termination_log: Path,
    image: Sequence[Path],
    layer: Path | None = None,
) -> list[str]:
    """The command line that runs a command as the first container of the pod.

    Args:
        manifest: The pod.
        command: The image's entry point with the container's arguments.
        termination_log: The file behind `terminationMessagePath`.
        image: Folders of the host that are part of the image.
        layer: What an image that was built has in the place of the host's files (`image_build`).
    """
    spec, container = manifest["spec"], manifest["spec"]["containers"][0]
    own, all_containers = container.get("securityContext", {}), spec.get("securityContext", {})
    user = own.get("runAsUser", all_containers.get("runAsUser", 0))
    group = own.get("runAsGroup", all_containers.get("runAsGroup", user))
    volumes = {volume["name"]: volume for volume in spec.get("volumes", [])}
    root = "" if layer is None else str(layer.parent / "root")
    outer = ["set -eu", "mount --make-rprivate /"]
    if layer is not None:
        outer += [
            # As the upper one, since lower ones may not lie in each other; it is made read-only below.
            f"mount -t overlay overlay -o lowerdir=/,upperdir={layer},workdir={layer.parent}/work {root}",
            f"mount --rbind /dev {root}/dev; mount -t proc proc {root}/proc",
        ]
    outer.append(f"mount -t tmpfs tmpfs {root}/media")
    shown = [Path(termination_log), *image]
    shown += [Path(v["hostPath"]["path"]) for v in volumes.values() if "hostPath" in v]
    for number, path in enumerate(shown):
        kind = "mkdir" if path.is_dir() else "touch"
        place = f"{root}/media/{number}"
        outer.append(f"{kind} {place}; mount --bind {shlex.quote(str(path))} {place}")
    lines = ["set -eu"]
    lines += [f"mount -t tmpfs -o mode=0755 tmpfs {folder}" for folder in COVERED]
    numbers = {str(path): number for number, path in enumerate(shown)}
    for path in image:
        if str(path).startswith(COVERED):
            lines += _bound(f"/media/{numbers[str(path)]}", str(path), read_only=True)
    for mount in container.get("volumeMounts", []):
        lines += _mounted(mount, volumes[mount["name"]], numbers)
    lines += _with_termination_log(container.get("terminationMessagePath", "/dev/termination-log"))
    lines.append("umount -l /media")
    if own.get("readOnlyRootFilesystem"):
        lines.append("mount -o remount,bind,ro /")
    drop = ["--no-new-privs"] if own.get("allowPrivilegeEscalation") is False else []
    if own.get("capabilities", {}).get("drop") == ["ALL"]:
        drop += ["--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all"]
    as_user = ["setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups", *drop]
    lines.append("cd /; exec " + shlex.join([*as_user, *command]))
    isolated = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
    inner = "\n".join(lines)
    if layer is not None:
        inner = shlex.join(["exec", "/usr/sbin/chroot", root, "/bin/sh", "-c", inner]).replace(
            "'exec'", "exec"
        )
    return [*isolated, "/bin/sh", "-c", "\n".join([*outer, inner])]


def _mounted(mount: Mapping[str, Any], volume: Mapping[str, Any], numbers: Mapping[str, int]) -> list[str]:
    path = str(mount["mountPath"])
    if "emptyDir" in volume:
        # All users of the pod may write there; a tmpfs in the place of the node's disk.
        quoted = shlex.quote(path)
        return [f"mkdir -p {quoted}", f"mount -t tmpfs -o mode=1777 tmpfs {quoted}"]
    source = f"/media/{numbers[volume['hostPath']['path']]}"
    return _bound(source, path, read_only=bool(mount.get("readOnly")))


def _bound(source: str, path: str, *, read_only: bool) -> list[str]:
    quoted = shlex.quote(path)
    lines = [f"mkdir -p {quoted}", f"mount --bind {source} {quoted}"]
    return [*lines, f"mount -o remount,bind,ro {quoted}"] if read_only else lines


def _with_termination_log(path: str) -> list[str]:
    """A `/dev` of its own, as containers have it, with the file in it."""
    devices = "null zero full random urandom"
    return [
        "mkdir /media/dev; mount -t tmpfs -o mode=0755 tmpfs /media/dev",
        f"for d in {devices}; do touch /media/dev/$d; mount --bind /dev/$d /media/dev/$d; done",
        "mkdir /media/dev/shm; mount --rbind /dev/shm /media/dev/shm",
        "ln -s /proc/self/fd /media/dev/fd",
        "mount --rbind /media/dev /dev",
        f"touch {shlex.quote(path)}; mount --bind /media/0 {shlex.quote(path)}",
    ]

"""Builds the image of `deploy/Dockerfile` as far as that goes without Docker.

The Dockerfile is read, and its commands run as they stand, in a root file system that is a copy (an overlay)
of this machine's, with the repository's files where COPY puts them. This machine stands for the base image:
what it has of compilers and system packages, `apt-get` would install. All stages share one root; in the end
only what the last stages copy is left, so that what they forget is missed.
"""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "deploy" / "Dockerfile"
CONTEXT = "/.context"
PYTHON = "/usr/local/bin/python"
"""Where the base image has its interpreter."""


@dataclass
class Stage:
    """A stage: what it begins with, and its instructions."""

    name: str
    base: str
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def all(self, instruction: str) -> list[str]:
        """Arguments of all such instructions."""
        return [rest for name, rest in self.instructions if name == instruction]


def read_stages(text: str) -> dict[str, Stage]:
    """The stages of a Dockerfile, in their order."""
    joined = re.sub(r"\\\n", " ", re.sub(r"(?m)^\s*#.*\n", "", text))
    arguments: dict[str, str] = {}
    stages: dict[str, Stage] = {}
    current: Stage | None = None
    for line in filter(None, map(str.strip, joined.splitlines())):
        name, rest = line.split(None, 1)
        if name == "FROM":
            base, _as, alias = rest.split()
            base = _filled(base, arguments)
            current = stages[alias] = Stage(alias, base)
        elif current is None:
            arguments |= dict([rest.split("=", 1)])
        else:
            current.instructions.append((name, rest))
    return stages


def copied(rest: str) -> tuple[str | None, list[str], str]:
    """Of a COPY: the stage that it is from, the sources, the target."""
    words = shlex.split(rest)
    options = dict(w.removeprefix("--").split("=", 1) for w in words if w.startswith("--"))
    *sources, target = (w for w in words if not w.startswith("--"))
    return options.get("from"), list(sources), target


def context_files() -> list[str]:
    """The repository's files that a build gets to see: those that `Dockerfile.dockerignore` lets through."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    rules = [
        line
        for line in (DOCKERFILE.parent / "Dockerfile.dockerignore").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    return [name for name in listed if _seen(name, rules) and (ROOT / name).is_file()]


def _seen(name: str, rules: list[str]) -> bool:
    """Docker's way: the last rule that fits a file, or a folder above it, decides."""
    seen = True
    above = [name, *map(str, Path(name).parents)][:-1]
    for rule in rules:
        pattern = rule.removeprefix("!").removeprefix("**/")
        deep = "**/" in rule
        for path in above:
            if fnmatch.fnmatchcase(Path(path).name if deep else path, pattern) and (
                deep or rule == "*" or path == pattern
            ):
                seen = rule.startswith("!")
    return seen


@dataclass(frozen=True)
class Image:
    """What came of a build.

    Attributes:
        layer: What it has beside, and in the place of, this machine's files.
        entry_point: Its entry point; `command` what it runs without arguments.
        environment: Its variables.
        user: Its user.
        python: Folder of the interpreter that it has at `/usr/local/bin/python`.
    """

    layer: Path
    entry_point: list[str]
    environment: dict[str, str]
    user: str
    python: Path


def build_image(folder: Path, target: str) -> Image:
    """Build a stage.

    Raises:
        AssertionError: A command of the Dockerfile failed.
    """
    stages = read_stages(DOCKERFILE.read_text())
    python = _python()
    layer, context = folder / "layer", folder / "layer" / CONTEXT.strip("/")
    for name in context_files():
        (context / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, context / name)
    (layer / "usr/local/bin").mkdir(parents=True)
    (layer / PYTHON.strip("/")).symlink_to(python / "bin" / "python3")
    lines = ["set -e"]
    for stage in needed(stages, target):
        lines += ["(", *_stage_script(stage, stages), ")"]
    last = lineage(stages, target)
    kept = {copied(rest)[2] for stage in last for rest in stage.all("COPY")}
    lines += [f"rm -rf {CONTEXT} /src /wheel"]
    lines += [
        "cd /opt; for one in *; do case /opt/$one in "
        + "|".join(sorted(kept))
        + ") ;; *) rm -rf $one;; esac; done"
    ]
    script = _in_overlay(folder, layer, python, "\n".join(lines))
    done = subprocess.run(script, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    final = stages[target]
    instructions = [one for stage in last for one in stage.instructions]
    user = [rest for name, rest in instructions if name == "USER"][-1]
    return Image(
        layer,
        json.loads(final.all("ENTRYPOINT")[-1]),
        {"PATH": "/usr/local/bin:/usr/bin:/bin"} | _variables(last),
        user,
        python,
    )


def needed(stages: dict[str, Stage], target: str) -> list[Stage]:
    """The stages that a target is made of, in the file's order."""
    found, todo = set(), [target]
    while todo:
        name = todo.pop()
        if name not in stages or name in found:
            continue
        found.add(name)
        todo.append(stages[name].base)
        todo += [source for rest in stages[name].all("COPY") if (source := copied(rest)[0])]
    return [stage for stage in stages.values() if stage.name in found]


def lineage(stages: dict[str, Stage], target: str) -> list[Stage]:
    """A stage and those that it begins with, the first one first."""
    stage = stages[target]
    return [*(lineage(stages, stage.base) if stage.base in stages else []), stage]


def _variables(stages: list[Stage]) -> dict[str, str]:
    """What ENV says, with the variables in it replaced."""
    values = {"PATH": "/usr/local/bin:/usr/bin:/bin"}
    for stage in stages:
        for rest in stage.all("ENV"):
            for word in shlex.split(rest):
                name, value = word.split("=", 1)
                values[name] = _filled(value, values)
    return values


def _filled(text: str, values: dict[str, str]) -> str:
    """With `$NAME` and `${NAME}` replaced."""
    return re.sub(r"\$\{?(\w+)\}?", lambda m: values.get(m.group(1), ""), text)


def _stage_script(stage: Stage, stages: dict[str, Stage]) -> list[str]:
    """The commands of a stage, in the order in which they stand."""
    lines = [
        f"export {name}={shlex.quote(value)}"
        for name, value in _variables(lineage(stages, stage.name)).items()
    ]
    place = "/"
    for one in lineage(stages, stage.name)[:-1]:
        place = (one.all("WORKDIR") or [place])[-1]
    lines.append(f"mkdir -p {place}; cd {place}")
    for name, rest in stage.instructions:
        if name == "WORKDIR":
            lines.append(f"mkdir -p {rest}; cd {rest}")
        elif name == "ARG":
            lines.append(f"export {rest}" if "=" in rest else f"export {rest}=")
        elif name == "COPY" and copied(rest)[0] is None:
            _, sources, to = copied(rest)
            lines += [f"mkdir -p {to if to.endswith('/') or len(sources) > 1 else Path(to).parent}"]
            lines += [
                f"cp -a {CONTEXT}/{one} {to}" if to.endswith("/") else f"cp -aT {CONTEXT}/{one} {to}"
                for one in sources
            ]
        elif name == "COPY":
            lines += [f"test -e {one}" for one in copied(rest)[1]]
        elif name == "RUN" and not rest.startswith("apt-get "):
            lines.append(rest)
    return lines


def _python() -> Path:
    """An interpreter of the version that the base image has, if there is one; else ours."""
    ours = Path(sys.base_prefix)
    version = re.search(r"python:(\d+\.\d+)", DOCKERFILE.read_text())
    assert version is not None
    found = sorted(ours.parent.glob(f"{version.group(1)}.*/bin/python3"))
    return found[-1].parents[1] if found else ours


def _in_overlay(folder: Path, layer: Path, python: Path, script: str) -> list[str]:
    """The command line that runs a script with this machine's files below the layer."""
    root, work = folder / "root", folder / "work"
    root.mkdir()
    work.mkdir()
    file = layer / "build.sh"
    file.write_text(script)
    lines = [
        "set -e",
        "mount --make-rprivate /",
        f"mount -t overlay overlay -o lowerdir=/,upperdir={layer},workdir={work} {root}",
        f"mount --rbind /dev {root}/dev; mount -t proc proc {root}/proc",
        f"mount -t tmpfs -o mode=1777 tmpfs {root}/tmp; mount -t tmpfs -o mode=0755 tmpfs {root}/root",
        f"mkdir -p {root}{python}; mount --bind {python} {root}{python}",
        f"chroot {root} /bin/sh /build.sh",
        f"rm {root}/build.sh",
    ]
    passed = {k: v for k, v in os.environ.items() if k.startswith(("PIP_", "SSL_", "UV_", "REQUESTS_"))}
    environment = [f"{k}={v}" for k, v in passed.items() if k != "PIP_FIND_LINKS"]
    isolated = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "/bin/sh", "-c", "\n".join(lines)]
    return ["env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", *environment, *isolated]

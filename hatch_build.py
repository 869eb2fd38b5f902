"""Builds the compiled modules (`native/`) when the package is built or installed.

They read RECORD messages, cast and encrypt columns, and look for changed keys in tables.

Needs a C++17 compiler: the one that `CXX` names, else `c++`. Without one the package is built all the same
and does this in Python, several times slower, with the same results. `AIRBERG_NATIVE=require` makes that an
error, `AIRBERG_NATIVE=skip` does not even try.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

MODULES = {
    "module.cpp": "airberg/columns/_records.abi3.so",
    "casts.cpp": "airberg/columns/_casts.abi3.so",
    "keys.cpp": "airberg/lake/_keys.abi3.so",
    "cipher.cpp": "airberg/keys/_cipher.abi3.so",
}
FLAGS = ("-std=c++17", "-O3", "-fPIC", "-pthread", "-shared", "-fvisibility=hidden", "-Wall", "-Wextra")
STABLE_ABI = "cp311-abi3"


class NativeBuildHook(BuildHookInterface[Any]):
    """Compiles the modules and puts them into the wheel; for an editable install, beside Python modules."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling before it gathers files."""
        wanted = os.environ.get("AIRBERG_NATIVE", "")
        if self.target_name != "wheel" or wanted == "skip":
            return
        root = Path(self.root)
        modules = {root / "native" / source: root / "src" / module for source, module in MODULES.items()}
        problems = [problem for source, module in modules.items() if (problem := compiled(source, module))]
        if problems:
            for module in modules.values():
                module.unlink(missing_ok=True)  # one of an older source would be worse than none
            if wanted == "require":
                raise RuntimeError(problems[0])
            self.app.display_warning(f"The compiled modules are left out: {problems[0]}")
            return
        if version != "editable":
            for place in MODULES.values():
                build_data["force_include"][str(root / "src" / place)] = place
        build_data["pure_python"] = False
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"{STABLE_ABI}-{platform}"


def compiled(source: Path, module: Path) -> str | None:
    """Compile the module; what went wrong, or None."""
    compiler = shlex.split(os.environ.get("CXX", "c++"))
    include = sysconfig.get_path("include")
    aside = module.with_suffix(f".{os.getpid()}")
    command = [*compiler, *FLAGS, f"-I{include}", str(source), "-o", str(aside), "-ldl"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        return f"the compiler {compiler[0]!r} cannot be started ({error.strerror})"
    if done.returncode != 0:
        aside.unlink(missing_ok=True)
        return f"the compiler failed:\n{done.stderr[-2000:]}"
    aside.replace(module)  # at once: a running process may have the old one open
    return None

"""Runs between us and a connector: starts it with limits, watches it, and ends all that it has started.

Runs by path as `python -I -S shim.py NAME=VALUE… -- COMMAND…`, one per connector, with the standard library
only (ready in about 20 ms), because what is done here between fork and exec can deadlock in a process with
threads. It is the parent of the connector and adopts every descendant whose own parent ends
(`PR_SET_CHILD_SUBREAPER`), so none can leave the tree, whatever it does to its session and process group.

Standard input is a socket (`SOCK_SEQPACKET`) to whoever started it. It takes `term` (SIGTERM for the
connector's group) and `kill` (SIGKILL for all, then end); when the other side is gone without a word it does
the same as for `kill`, and removes the connector's folders. It tells `exit CODE` when the connector itself
has ended, `limit NAME` when a limit was exceeded and all were killed for it, and `none` when no process is
left.

Values: `parent` (its process id), `home` and `secrets` (folders), `memory` and `disk` (bytes), `processes`
and `files` (numbers); 0 is no limit. With `proxy` (a port) all of it gets a network of its own: nothing but a
loopback, and a socket that listens at that port, which is handed over with `network`; `go` is the answer.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import resource
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1  # prctl(2)
_PR_SET_CHILD_SUBREAPER = 36
_CLONE_NEWUSER, _CLONE_NEWNET = 0x1000_0000, 0x4000_0000  # unshare(2)
_SIOCGIFFLAGS, _SIOCSIFFLAGS = 0x8913, 0x8914  # netdevice(7)
_LOOK_EVERY_S = 0.25
_DISK_EVERY_S = 1.0
_COSTS_LESS = 50
"""Looking at many processes or files takes long; it may take a fiftieth of one core."""
_MAX_ENTRIES = 200_000
"""Files and folders in the connector's folders; more are as good as too many bytes."""
_NO_CORE = 1
"""Special to the kernel: no core, also where cores go to a program, which 0 does not prevent (core(5))."""
_PAGE = resource.getpagesize()


class Shim:
    """One connector and all that descends from it.

    Where the kernel does not hand orphans to us (some sandboxes), `none` is never told: there may be some.
    """

    def __init__(self, values: dict[str, str], command: list[str]) -> None:
        self._parent = int(values["parent"])
        self._folders = [values[name] for name in ("home", "secrets") if name in values]
        self._memory, self._disk, self._processes, self._files = (
            int(values.get(name, 0)) for name in ("memory", "disk", "processes", "files")
        )
        self._proxy = int(values.get("proxy", 0))
        self._command = command
        self._prctl = ctypes.CDLL(None).prctl
        self._connector = 0
        self._orphaned = False
        self._in_memory = [folder for folder in self._folders if _memory_backed(folder)]
        self._files_in_memory = 0
        self._disk_next = time.monotonic() + _DISK_EVERY_S

    def run(self) -> None:
        """Start the connector and stay until nothing of it is left."""
        signal.signal(signal.SIGTERM, self._on_parent_end)
        self._prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != self._parent:  # it ended before the kernel knew
            return
        adopts = self._prctl(_PR_SET_CHILD_SUBREAPER, 1) == 0
        wake, waker = os.pipe()
        os.set_blocking(waker, False)
        signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        if self._proxy and not self._has_own_network():
            return
        shim = os.getpid()
        self._connector = os.fork()
        if self._connector == 0:
            self._become_connector(shim)
        nothing = os.open(os.devnull, os.O_RDWR)
        for pipe in (1, 2):  # so that their end is seen when the connector closes them
            os.dup2(nothing, pipe)
        self._supervise(wake)
        self._kill_all(wake)
        if self._orphaned:
            self._remove_folders()
        if adopts:
            self._tell("none")

    def _has_own_network(self) -> bool:
        """Leave the network, and hand over a socket of the new one; False when that cannot be."""
        with socket.socket(fileno=os.dup(0)) as other:
            try:
                _leave_network()
                self._prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)  # new credentials may have undone it
                with socket.socket() as listening:
                    listening.bind(("127.0.0.1", self._proxy))
                    listening.listen(128)
                    socket.send_fds(other, [b"network"], [listening.fileno()])
            except OSError as error:
                other.send(f"refused {error.strerror}".encode())
                return False
            return other.recv(256) == b"go"

    def _on_parent_end(self, *_: object) -> None:
        self._orphaned = True

    # ---- the connector's side of the fork ------------------------------------------------------------------

    def _become_connector(self, shim: int) -> None:
        try:
            os.setsid()
            self._prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != shim:
                os._exit(1)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            # Python ignores SIGPIPE and SIGXFSZ, and that would be inherited.
            for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGTERM, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            os.umask(0o077)
            self._limit()
            os.execvp(self._command[0], self._command)  # noqa: S606 - the launch description's own command
        except OSError as error:
            name = os.path.basename(self._command[0])  # noqa: PTH119
            os.write(2, f"cannot start {name}: {error.strerror}\n".encode())
        finally:
            os._exit(127)

    def _limit(self) -> None:
        _lower(resource.RLIMIT_CORE, _NO_CORE)
        if self._files:
            _lower(resource.RLIMIT_NOFILE, self._files)
        if self._disk:
            _lower(resource.RLIMIT_FSIZE, self._disk)
        if self._memory:
            # The limit is what is resident, which is looked at from time to time. This one holds at once, so
            # it bounds what is taken between two looks; it counts what is only reserved, so it is wider.
            _lower(resource.RLIMIT_DATA, 2 * self._memory)
        with contextlib.suppress(OSError):  # when memory is short it goes before we do
            descriptor = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
            os.write(descriptor, b"500")
            os.close(descriptor)

    # ---- watching ------------------------------------------------------------------------------------------

    def _supervise(self, wake: int) -> None:
        """Until `kill`, the end of the other side, or an exceeded limit."""
        poll = select.poll()
        poll.register(0, select.POLLIN)
        poll.register(wake, select.POLLIN)
        look_next = time.monotonic() + _LOOK_EVERY_S
        while not self._orphaned:
            ready = {descriptor for descriptor, _ in poll.poll(_LOOK_EVERY_S * 1000)}
            if wake in ready:
                os.read(wake, 4096)
                self._reap()
            if 0 in ready and not self._obey():
                return
            looked = time.monotonic()
            if looked >= look_next:
                if exceeded := self._exceeded():
                    self._tell(
                        f"limit {exceeded}"
                    )  # first, so that the exit code is not taken for the reason
                    self._kill_all(wake)
                look_next = looked + max(_LOOK_EVERY_S, _COSTS_LESS * (time.monotonic() - looked))

    def _obey(self) -> bool:
        try:
            order = os.read(0, 64)
        except OSError:
            order = b""
        if order == b"term":
            if self._connector:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self._connector, signal.SIGTERM)
            return True
        self._orphaned = order != b"kill"
        return False

    def _exceeded(self) -> str | None:
        """The name of the limit that does not hold."""
        pids = _descendants()
        if self._processes and len(pids) > self._processes:
            return "processes"
        # Shared pages count for each process at first; only when that is too much it is worth to divide them.
        left = self._memory - self._files_in_memory
        if self._memory and sum(map(_resident, pids)) > left and sum(map(_own_memory, pids)) > left:
            return "memory"
        now = time.monotonic()
        if now >= self._disk_next:
            self._files_in_memory = _size_of(self._in_memory, self._memory) if self._memory else 0
            size = _size_of(self._folders, self._disk) if self._disk else 0
            self._disk_next = now + max(_DISK_EVERY_S, _COSTS_LESS * (time.monotonic() - now))
            if size > self._disk:
                return "disk"
        return None

    # ---- the end -------------------------------------------------------------------------------------------

    def _reap(self) -> bool:
        """Take the exit codes that are there; False when there is no process left that could have one."""
        while True:
            try:
                pid, status, used = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self._connector:
                self._connector = 0  # from here on the number may be another's
                if status != 0 and 0 < self._memory < used.ru_maxrss * 1024:
                    self._tell("limit memory")  # it was refused more before we looked
                self._tell(f"exit {os.waitstatus_to_exitcode(status)}")

    def _kill_all(self, wake: int) -> None:
        """Kill until there is no child: all descendants of children that end become children."""
        poll = select.poll()
        poll.register(wake, select.POLLIN)
        ours = os.getpgrp()
        while True:
            for pid in _descendants():
                with contextlib.suppress(OSError):  # it has just ended
                    # A group is killed at once, so that its members cannot fork faster than they are found.
                    group = os.getpgid(pid)
                    if group > 1 and group != ours:
                        os.killpg(group, signal.SIGKILL)
                    os.kill(pid, signal.SIGKILL)
            if not self._reap():
                return
            if poll.poll(10):
                os.read(wake, 4096)

    def _remove_folders(self) -> None:
        import shutil

        for folder in self._folders:
            shutil.rmtree(folder, ignore_errors=True)

    def _tell(self, what: str) -> None:
        with contextlib.suppress(OSError):  # nobody is there any more
            os.write(0, what.encode())


def _lower(which: int, value: int) -> None:
    """Set a limit for good, never above the one that is there."""
    _, hard = resource.getrlimit(which)
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(which, (value, value))


# ---- what /proc tells --------------------------------------------------------------------------------------


def _descendants() -> list[int]:
    """Process ids of all descendants; what starts or ends meanwhile may be left out."""
    found: list[int] = []
    todo = [os.getpid()]
    below = _children if os.path.exists(f"/proc/self/task/{todo[0]}/children") else _scan()  # noqa: PTH110
    while todo:
        children = below(todo.pop())
        found += children
        todo += children
    return found


def _children(pid: int) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(OSError):  # it has just ended
        for thread in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208 - this runs four times a second
            with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:  # noqa: PTH123
                found += map(int, file.read().split())
    return found


def _scan() -> Callable[[int], list[int]]:
    """The same where the kernel was built without CONFIG_PROC_CHILDREN: look at every process there is."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):  # noqa: PTH208
        if name.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:  # noqa: PTH123
                parent = int(file.read().rpartition(b")")[2].split(None, 2)[1])
                children.setdefault(parent, []).append(int(name))
    return lambda pid: children.get(pid, [])


def _resident(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:  # noqa: PTH123
            return int(file.read().split()[1]) * _PAGE
    except (OSError, ValueError, IndexError):
        return 0


def _own_memory(pid: int) -> int:
    """Memory that is there for this process: shared pages in parts, pages of files not at all."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:  # noqa: PTH123
            sizes = {line.split()[0]: int(line.split()[1]) * 1024 for line in file if line.endswith(b"kB\n")}
    except (OSError, ValueError):
        return 0 if not os.path.exists(f"/proc/{pid}") else _resident(pid)  # noqa: PTH110
    if b"Pss_Anon:" not in sizes:  # before Linux 5.9
        return sizes.get(b"Pss:", 0)
    return sum(sizes.get(name, 0) for name in (b"Pss_Anon:", b"Pss_Shmem:", b"SwapPss:"))


def _memory_backed(folder: str) -> bool:
    """Whether files in it take memory."""
    try:
        device = os.stat(folder).st_dev  # noqa: PTH116
        with open("/proc/self/mountinfo", "rb") as mounts:  # noqa: PTH123
            for fields in map(bytes.split, mounts):
                if fields[2] == f"{os.major(device)}:{os.minor(device)}".encode():
                    return fields[fields.index(b"-") + 1] in (b"tmpfs", b"ramfs")
    except (OSError, ValueError, IndexError):
        pass
    return False


def _leave_network() -> None:
    """Enter a new network namespace, in which the loopback is up and nothing else is.

    Without the right to make one, a new user namespace gives it; who we are stays the same.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET) != 0:
        user, group = os.getuid(), os.getgid()
        if libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        maps = {"setgroups": "deny", "uid_map": f"{user} {user} 1", "gid_map": f"{group} {group} 1"}
        for name, text in maps.items():
            with open(f"/proc/self/{name}", "w") as file:  # noqa: PTH123 - as elsewhere in this program
                file.write(text)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        asked = fcntl.ioctl(handle, _SIOCGIFFLAGS, struct.pack("16sh14x", b"lo", 0))
        (flags,) = struct.unpack("16xh14x", asked)
        fcntl.ioctl(handle, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | 1))


def _size_of(folders: list[str], enough: int) -> int:
    """Bytes on disk below folders; stops counting when it is more than `enough`."""
    size = entries = 0
    todo = list(folders)
    while todo and size <= enough:
        try:
            with os.scandir(todo.pop()) as found:
                for entry in found:
                    entries += 1
                    if entries > _MAX_ENTRIES:
                        return enough + 1
                    with contextlib.suppress(OSError):
                        size += entry.stat(follow_symlinks=False).st_blocks * 512
                        if entry.is_dir(follow_symlinks=False):
                            todo.append(entry.path)
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:  # nobody needs that
                return enough + 1
    return size


def main(arguments: list[str]) -> None:
    """Read the arguments and run."""
    split = arguments.index("--")
    values = dict(argument.partition("=")[::2] for argument in arguments[:split])
    Shim(values, arguments[split + 1 :]).run()


if __name__ == "__main__":
    main(sys.argv[1:])

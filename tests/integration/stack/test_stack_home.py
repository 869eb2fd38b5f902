"""What a stack needs for itself: its ports and its home."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from airberg.errors import ConfigurationFailed
from airberg.settings import AirflowSettings, ApiSettings, Settings
from airberg.stack.airflow import child_settings
from airberg.stack.embedded import Stack, hold_home
from airberg.stack.ports import check_ports
from support.conditions import eventually
from support.free_ports import free_ports


@pytest.fixture
def listener() -> Iterator[int]:
    """A port that this process listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        yield taken.getsockname()[1]


def settings(home: Path, api: int, airflow: int, **airflow_settings: bool) -> Settings:
    """Settings with these ports."""
    return Settings(
        home=home, api=ApiSettings(port=api), airflow=AirflowSettings(port=airflow, **airflow_settings)
    )


def test_free_ports_are_fine(tmp_path: Path) -> None:
    """Nothing is said about ports that nobody has; checking does not take them."""
    wanted = settings(tmp_path, *free_ports(2))
    check_ports(wanted)
    check_ports(wanted)


@pytest.mark.parametrize(
    ("part", "setting"), [("api", "AIRBERG_API__PORT"), ("airflow", "AIRBERG_AIRFLOW__PORT")]
)
def test_a_taken_port_is_reported_with_its_holder(
    tmp_path: Path, listener: int, part: str, setting: str
) -> None:
    """The message names port and process, the guidance the setting that changes it."""
    free = free_ports(1)[0]
    ports = (listener, free) if part == "api" else (free, listener)
    with pytest.raises(ConfigurationFailed) as caught:
        check_ports(settings(tmp_path, *ports))
    assert caught.value.code == "port-taken"
    assert str(listener) in caught.value.message
    assert f"(process {os.getpid()})" in caught.value.message
    assert setting in caught.value.guidance


def test_the_port_of_ones_own_airflow_is_not_ours_to_check(tmp_path: Path, listener: int) -> None:
    """With an Airflow of one's own its port is taken, as it should be."""
    check_ports(settings(tmp_path, free_ports(1)[0], listener, embedded=False))


def test_one_port_for_two_parts(tmp_path: Path) -> None:
    """Two parts on one port are noticed before either starts."""
    port = free_ports(1)[0]
    with pytest.raises(ConfigurationFailed, match="cannot both"):
        check_ports(settings(tmp_path, port, port))


def test_an_address_of_another_machine(tmp_path: Path) -> None:
    """An address that is not one of this machine names the setting."""
    wanted = Settings(home=tmp_path, api=ApiSettings(host="192.0.2.1", port=free_ports(1)[0]))
    with pytest.raises(ConfigurationFailed) as caught:
        check_ports(wanted)
    assert "AIRBERG_API__HOST" in caught.value.guidance


HOLDER = """
import sys, time
from pathlib import Path
from airberg.stack.embedded import hold_home
hold_home(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(600)
"""


def test_a_home_is_held_by_one_process_until_it_dies(tmp_path: Path) -> None:
    """A second stack on a home is refused by name; after a SIGKILL the home is free at once."""
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, tmp_path], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(ConfigurationFailed) as caught:
            hold_home(tmp_path)
        assert f"(process {holder.pid})" in caught.value.message
        assert caught.value.code == "home-in-use"
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.communicate()
    descriptor = eventually(lambda: hold_home(tmp_path), 10)
    assert (tmp_path / "airberg.pid").read_text() == f"{os.getpid()}\n"
    os.close(descriptor)


def test_a_stack_that_cannot_start_gives_everything_back(tmp_path: Path, listener: int) -> None:
    """After a taken port nothing runs, nothing was installed, and the home can be used by the next try."""
    wanted = settings(tmp_path / "home", listener, free_ports(1)[0])
    with pytest.raises(ConfigurationFailed), Stack(wanted) as stack:
        stack.start(lambda _: None)
    assert {p.name for p in wanted.home.iterdir()} == {"airberg.pid"}
    os.close(hold_home(wanted.home))


def test_children_find_the_same_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Home, hosts and ports are those of the settings, other variables those of ours, paths are absolute."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AIRBERG_ENV_FILE", "deployment.env")
    monkeypatch.setenv("AIRBERG_SYNC__BATCH_ROWS", "77")
    monkeypatch.setenv("AIRBERG_API__PORT", "1")
    given = child_settings(settings(Path("home"), 4321, 4322))
    assert given["AIRBERG_HOME"] == str(tmp_path / "home")
    assert (given["AIRBERG_API__PORT"], given["AIRBERG_AIRFLOW__PORT"]) == ("4321", "4322")
    assert given["AIRBERG_SYNC__BATCH_ROWS"] == "77"
    assert given["AIRBERG_ENV_FILE"] == str(tmp_path / "deployment.env")

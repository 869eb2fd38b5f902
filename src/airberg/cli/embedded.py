"""`airberg up`: the embedded stack until Ctrl-C."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator

from rich.console import Console

from airberg.settings import Settings
from airberg.stack.embedded import Stack

READY_WITHIN_S = 600.0


@contextlib.contextmanager
def running_stack(settings: Settings, console: Console) -> Iterator[Stack]:
    """The stack, ready to be used, for the time of a `with` block; steps are printed as they happen.

    Raises:
        AirbergError: It could not be started; nothing is left running.
    """
    stack = Stack(settings)
    try:
        stack.start(lambda text: console.print(f"  {text}", style="dim", highlight=False))
        stack.wait_ready(READY_WITHIN_S)
        yield stack
    finally:
        stack.stop()


def wait_for_stop(stack: Stack) -> int:
    """Wait for Ctrl-C or SIGTERM, or until a part of the stack ends by itself.

    Returns:
        The exit code: 0 when somebody asked to stop.
    """
    stop = threading.Event()
    for s in (signal.SIGINT, signal.SIGTERM):
        signal.signal(s, lambda *_: stop.set())
    while not stop.wait(1.0):
        stack.check()
    return 0


def print_addresses(settings: Settings, console: Console) -> None:
    """Say where everything is."""
    console.print(f"\nAPI      {settings.public_url}   (documentation at /docs)", highlight=False)
    login = "   (user admin, password: airberg airflow-password)" if settings.airflow.embedded else ""
    console.print(f"Airflow  {settings.airflow_public_url}{login}", highlight=False)
    console.print(f"Home     {settings.home}\n", highlight=False, soft_wrap=True)


def run_stack(settings: Settings) -> int:
    """Start the stack, say what to do with it, stay."""
    console = Console()
    with running_stack(settings, console) as stack:
        print_addresses(settings, console)
        console.print("A token: airberg token     Stop: Ctrl-C")
        return wait_for_stop(stack)

"""The double from a shell: `python -m airberg.testing.datahub --port 8081`."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from airberg.testing.datahub.faults import Fault
from airberg.testing.datahub.server import Server
from airberg.testing.datahub.service import DataHubDouble


def main(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0: a free one.")] = 8081,
    token: Annotated[
        str | None,
        typer.Option(help="Bearer token that it wants; empty: none. Default: made up, and printed."),
    ] = None,
    old: Annotated[bool, typer.Option(help="From before patches with keys and OpenAPI v3.")] = False,
    drops_patches: Annotated[
        bool, typer.Option(help="Leaves patches with keys out, and answers 200.")
    ] = False,
    status: Annotated[
        int | None, typer.Option(min=400, max=599, help="Answer this to every request.")
    ] = None,
    retry_after: Annotated[str | None, typer.Option(help="With this Retry-After.")] = None,
    delay: Annotated[float, typer.Option(min=0, help="Seconds before every answer.")] = 0.0,
    cut: Annotated[
        Literal["before", "after"] | None, typer.Option(help="End connections before or after the work.")
    ] = None,
    times: Annotated[int | None, typer.Option(min=1, help="Only for so many requests.")] = None,
    over: Annotated[int, typer.Option(help="Only for requests with a body of more bytes.")] = -1,
) -> None:
    """Serve a double of DataHub's metadata service until Ctrl-C. What it is sent is lost then."""
    datahub = DataHubDouble(token, old=old, drops_patches=drops_patches)
    if status is not None or delay or cut is not None:
        datahub.fault = Fault(
            status=status, retry_after=retry_after, delay_s=delay, cut=cut, times=times, over=over
        )
    with Server(datahub, host, port, report=typer.echo) as server:
        typer.echo(f"AIRBERG_DATAHUB__SERVER={datahub.url}")
        typer.echo(f"AIRBERG_DATAHUB__TOKEN={datahub.token}")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            typer.echo(f"{len(datahub.aspects)} aspects, {len(datahub.timeseries)} events")


if __name__ == "__main__":
    typer.run(main)

"""`taskloom version`: what is installed here, and on request what the server is."""

from __future__ import annotations

from typing import Annotated

import typer

from taskloom.cli.output import JsonFlag, print_fields, print_json
from taskloom.domain.version import VERSION


def version(
    server: Annotated[
        bool, typer.Option("--server", help="Also ask the server for its version and limits.")
    ] = False,
    json: JsonFlag = False,
) -> None:
    """Show the version installed here and, with --server, the server's."""
    if not server:
        if json:
            print_json({"version": VERSION})
        else:
            print_fields([("taskloom", VERSION)])
        return
    from taskloom.cli import connect
    from taskloom.wire import operations as op

    with connect.server() as client:
        info, url = client.call(op.SERVER_INFO), client.address.url
    if json:
        print_json({"version": VERSION, "url": url, "server": info})
        return
    print_fields(
        [
            ("taskloom", VERSION),
            ("server", f"{info.version} at {url}"),
            ("database", info.database),
            ("you are", f"{info.user} ({info.role})"),
        ]
    )

"""`taskloom version`: what is installed here, and on request what the server is."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as distribution_version
from typing import Annotated

import typer

from taskloom.cli.output import JsonFlag, print_fields, print_json


def version(
    server: Annotated[
        bool, typer.Option("--server", help="Also ask the server for its version and limits.")
    ] = False,
    json: JsonFlag = False,
) -> None:
    """Show the version installed here and, with --server, the server's."""
    if not server:
        if json:
            print_json({"version": installed_version()})
        else:
            print_fields([("taskloom", installed_version())])
        return
    from taskloom.cli import connect
    from taskloom.wire import operations as op

    with connect.server() as client:
        info, url = client.call(op.SERVER_INFO), client.address.url
    if json:
        print_json({"version": installed_version(), "url": url, "server": info})
        return
    print_fields(
        [
            ("taskloom", installed_version()),
            ("server", f"{info.version} at {url}"),
            ("database", info.database),
            ("you are", f"{info.user} ({info.role})"),
        ]
    )


def installed_version() -> str:
    """The version of the installed package, or that of an unpacked source tree."""
    try:
        return distribution_version("taskloom")
    except PackageNotFoundError:
        return "0+source"

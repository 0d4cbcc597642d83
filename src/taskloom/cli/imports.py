"""`taskloom import`: bring what another system holds over to our server.

Only reads its arguments, shows how far it is, and prints the report; the work is done by cli.clearml. It is a program
of the person who calls it: our server never fetches what somebody names.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from taskloom.cli import connect
from taskloom.cli.clearml import conf
from taskloom.cli.clearml.report import Account, Report
from taskloom.cli.output import JsonFlag, hint, print_fields, print_json, print_table, say, screen
from taskloom.cli.terminal import plain
from taskloom.domain.errors import BadInput, TaskloomError
from taskloom.domain.quantities import size
from taskloom.wire import operations as op
from taskloom.wire.send import Client

if TYPE_CHECKING:
    from taskloom.cli.clearml.running import Import, Wanted
    from taskloom.cli.clearml.source import Login

_SPAN = re.compile(r"(\d+)([hdw])")
_HOURS = {"h": 1, "d": 24, "w": 168}
MOST_JOBS = 32

app = typer.Typer(help="Bring tasks over from another system.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """There will be more systems than one."""


@app.command("clearml")
def import_clearml(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...",
            help="API address of a ClearML server, or zips of offline sessions.",
            show_default=False,
        ),
    ],
    access_key: Annotated[
        str, typer.Option("--access-key", help="Of the source [CLEARML_API_ACCESS_KEY, clearml.conf].")
    ] = "",
    secret_key: Annotated[
        str, typer.Option("--secret-key", help="Of the source; the variable [CLEARML_API_SECRET_KEY] is safer.")
    ] = "",
    files_host: Annotated[
        list[str] | None,
        typer.Option(
            "--files-host",
            help="Address of the source's files; repeat for more. OLD=NEW fetches what was stored as OLD from NEW.",
        ),
    ] = None,
    project: Annotated[str, typer.Option("--project", help="Only this project and those below it.")] = "",
    task: Annotated[list[str] | None, typer.Option("--task", help="Only this task (id); repeat for more.")] = None,
    since: Annotated[
        str, typer.Option("--since", help="Only what changed since: 2025-01-31, a time, or a span such as 30d.")
    ] = "",
    archived: Annotated[bool, typer.Option("--archived", help="Also archived tasks and models.")] = False,
    no_files: Annotated[bool, typer.Option("--no-files", help="Keep addresses, fetch no bytes.")] = False,
    jobs: Annotated[int, typer.Option("--jobs", min=1, max=MOST_JOBS, help="Tasks at the same time.")] = 4,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell what would be done, do nothing.")] = False,
    json: JsonFlag = False,
) -> None:
    """Import a running ClearML server, or offline sessions, with ids, times and states. Safe to cut and to repeat."""
    urls = [source for source in sources if "://" in source]
    if urls and len(sources) > 1:
        raise typer.BadParameter("SOURCE: one server, or offline sessions; not several servers or both")
    try:
        from taskloom.cli.clearml import running
    except ImportError as error:  # the translation is the server's own
        raise BadInput(
            f"the import needs the server's packages: pip install 'taskloom[server]' ({error})"
        ) from None
    with connect.server() as client:
        report = Report(", ".join(sources), client.address.url, dry_run)
        if urls:
            login = _login(urls[0], access_key, secret_key, files_host or [])
            wanted = running.Wanted(project, task or (), _since(since), archived)
            account = _from_server(client, report, login, wanted, not no_files, jobs, dry_run, json)
        else:
            account = _from_sessions(client, report, [Path(source) for source in sources], not no_files, dry_run)
    if json:
        print_json(account)
    else:
        _show(account)
    if account.failed:
        raise typer.Exit(1)


# --- from a server ----------------------------------------------------------------------------------------


def _from_server(
    client: Client,
    report: Report,
    login: Login,
    wanted: Wanted,
    files: bool,
    jobs: int,
    dry_run: bool,
    quiet: bool,
) -> Account:
    from taskloom.cli.clearml.bringing import Bringing
    from taskloom.cli.clearml.files import Files
    from taskloom.cli.clearml.origins import ServerOrigin
    from taskloom.cli.clearml.patience import Patience
    from taskloom.cli.clearml.running import Import
    from taskloom.cli.clearml.source import Source
    from taskloom.cli.clearml.target import Target

    _check_admin(client)
    patience = Patience(hint)
    source = Source(login, patience)
    origin, target = ServerOrigin(source), Target(client, patience)
    bringing = Bringing(
        target, origin, Files(target, origin, report, files), report, patience, lambda _count: None
    )
    work = Import(source, bringing, report, patience, jobs, dry_run)
    try:
        with _progress(work, quiet):
            work.run(wanted)
    except KeyboardInterrupt:
        hint("cut; what is finished is finished, and the same command goes on from here")
        raise
    except TaskloomError:
        if any(report.account().tasks.values()):
            hint("the import ended early; the same command goes on from here")
        raise
    finally:
        patience.stop()
        source.close()
    return report.account()


@contextmanager
def _progress(work: Import, quiet: bool) -> Generator[None]:
    """A bar of tasks on standard error, for who looks at it."""
    console = screen(stderr=True)
    if quiet or not console.is_terminal:
        yield
        return
    from dataclasses import replace

    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    texts = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    events = TextColumn("{task.fields[events]:,} events")
    with Progress(*texts, events, TimeRemainingColumn(), console=console, transient=True) as bar:
        line = bar.add_task("tasks", total=None, events=0)
        brought = 0

        def advance(count: int) -> None:
            nonlocal brought
            brought += count
            bar.update(line, events=brought)

        work.bringing = replace(work.bringing, advance=advance)
        work.begin = lambda count: bar.update(line, total=count)
        work.step = lambda: bar.advance(line)
        yield


def _login(url: str, access_key: str, secret_key: str, files: list[str]) -> Login:
    """From the options, else the variables and clearml.conf (those of a file only for its own server)."""
    from taskloom.cli.clearml.source import Login

    if not url.startswith(("http://", "https://")):
        raise BadInput(f"source {url!r}: expected an address such as https://api.example.org")
    url = url.rstrip("/")
    told = conf.read_conf()
    same = told.api_server.rstrip("/") == url
    named_by_file = {f for f in ("access_key", "secret_key") if "/" in told.source(f)}
    access = access_key or (told.access_key if same or "access_key" not in named_by_file else "")
    secret = secret_key or (told.secret_key if same or "secret_key" not in named_by_file else "")
    if not access or not secret:
        raise BadInput(
            f"no keys for {url}: give --access-key and --secret-key, set CLEARML_API_ACCESS_KEY and "
            "CLEARML_API_SECRET_KEY, or point a clearml.conf at it"
        )
    hosts: dict[str, str] = {}
    for text in [*files, *([told.files_server] if same and told.files_server else [])]:
        recorded, _, actual = text.partition("=http")
        hosts[recorded] = f"http{actual}" if actual else recorded
    return Login(url, access, secret, hosts)


def _since(text: str) -> str:
    """ISO 8601 in UTC; empty stays empty."""
    if not text:
        return ""
    span = _SPAN.fullmatch(text)
    now = datetime.datetime.now(datetime.UTC)
    if span is not None:
        found = now - datetime.timedelta(hours=int(span[1]) * _HOURS[span[2]])
    else:
        try:
            found = datetime.datetime.fromisoformat(text)
        except ValueError:
            message = f"--since {text!r}: expected a date, a time such as 2025-01-31T14:00, or a span such as 30d"
            raise typer.BadParameter(message) from None
    return found.astimezone(datetime.UTC).replace(tzinfo=None).isoformat(timespec="seconds")


def _check_admin(client: Client) -> str:
    """The user who imports; ids, times and users are kept as given only for an administrator."""
    told = client.call(op.SERVER_INFO)
    if told.role != "admin":
        raise BadInput(
            f"an import needs a key of role admin at {client.address.url}; this one is of role {told.role}"
        )
    return told.user


# --- from offline sessions --------------------------------------------------------------------------------


def _from_sessions(client: Client, report: Report, paths: list[Path], files: bool, dry_run: bool) -> Account:
    from taskloom.cli.clearml.bringing import Bringing
    from taskloom.cli.clearml.files import Files
    from taskloom.cli.clearml.patience import ENDS_ALL, Patience
    from taskloom.cli.clearml.running import bring_session
    from taskloom.cli.clearml.session import opened
    from taskloom.cli.clearml.target import Target

    user = _check_admin(client)
    patience = Patience(hint)
    target = Target(client, patience)
    for path in paths:
        try:
            with opened(path) as session:
                kept = Files(target, session, report, files)
                bringing = Bringing(target, session, kept, report, patience, lambda _count: None)
                bring_session(session, bringing, report, user, dry_run=dry_run)
        except ENDS_ALL:
            raise
        except TaskloomError as error:
            report.fail("", path.name, error.message)
    return report.account()


# --- the report -------------------------------------------------------------------------------------------


def _show(account: Account) -> None:
    words = {
        "new": "new",
        "changed": "brought up to date",
        "begun": "finished, of a cut import",
        "known": "here already",
        "left": "left alone",
        "failed": "failed",
    }
    told = [f"{count} {words[state]}" for state, count in account.tasks.items() if count]
    print_fields(
        [
            ("tasks", ", ".join(told) or "none"),
            ("projects", account.projects or ""),
            ("models", account.models or ""),
            ("scalars", f"{account.scalars:,}" if account.scalars else ""),
            ("console lines", f"{account.console:,}" if account.console else ""),
            ("plots", account.plots or ""),
            ("debug samples", account.samples or ""),
            ("files", f"{account.files} ({size(account.bytes)})" if account.files else ""),
        ],
        title="Would be done" if account.dry_run else "",
    )
    if account.left_out:
        print_table(
            ["what", "count", "why", "such as"],
            [(left.what, left.count, left.why, "; ".join(left.examples[:2])) for left in account.left_out],
            title="Left out or changed",
            right=["count"],
        )
    for failed in account.failed:
        say(plain(f"failed: {failed.task} {failed.name}: {failed.error}"), style="red")

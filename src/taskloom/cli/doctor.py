"""`taskloom doctor`: what is wrong with this machine, its server and its clients, and what to do about it.

A check is a plain function that yields findings. Checks know nothing of one another and none stops the others: one
that fails in a way that nobody foresaw becomes a finding itself. The exit code is 1 when something is broken;
a warning leaves it at 0.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import msgspec

from taskloom.cli.bindings import hooked_here
from taskloom.cli.clearml import conf
from taskloom.cli.output import JsonFlag, ago, print_json, print_table, say, screen
from taskloom.cli.terminal import plain
from taskloom.domain.errors import Forbidden, ServerAway, TaskloomError, Unauthorized
from taskloom.domain.quantities import size
from taskloom.domain.version import VERSION
from taskloom.journal import layout
from taskloom.wire import configuration
from taskloom.wire import messages as m
from taskloom.wire import operations as op
from taskloom.wire.connection import data_folder, find_address
from taskloom.wire.send import Client

State = Literal["ok", "warning", "broken", "note"]
MARKS: dict[State, tuple[str, str]] = {
    "ok": ("ok", "green"),
    "note": ("--", "dim"),
    "warning": ("!!", "yellow"),
    "broken": ("XX", "red"),
}
FULL, NEARLY_FULL = 256 << 20, 2 << 30  # bytes of free disk
SLOW = 1.0  # seconds for an answer without work in it
SHOWN = 20  # calls that the table for people shows
PROGRAM_SECONDS = 10.0


class Finding(msgspec.Struct, frozen=True):
    """What one look found. `advice` says what to do; empty when there is nothing to do."""

    check: str
    state: State
    message: str
    advice: str = ""


class Diagnosis(msgspec.Struct, frozen=True):
    """The answer of --json. `missed`: calls of ClearML's clients that the server does not serve."""

    healthy: bool
    findings: list[Finding]
    missed: list[m.UnservedCall]


@dataclass(frozen=True)
class Place:
    """Where to look: this machine's data folder, and a client of the server, if one is known."""

    data: Path
    client: Client | None


Findings = Iterator[Finding]
Check = Callable[[Place], Findings]


def doctor(json: JsonFlag = False) -> int:
    """Check server, key, disk, journals, workers and ClearML's clients, and say what to do; exit code 1 if broken."""
    findings: list[Finding] = []
    client: Client | None = None
    try:
        address = find_address()
        client = None if address is None else Client(address)
    except TaskloomError as error:
        findings.append(Finding("server", "broken", error.message))
    place = Place(data_folder(), client)
    try:
        for name, check in CHECKS.items():
            if client is not None or name not in NEED_SERVER:
                findings += _run(name, check, place)
        missed = missed_calls(place)
    finally:
        if client is not None:
            client.close()
    healthy = all(finding.state != "broken" for finding in findings)
    if json:
        print_json(Diagnosis(healthy, findings, missed))
    else:
        _show(findings, missed)
    return 0 if healthy else 1


def _run(name: str, check: Check, place: Place) -> list[Finding]:
    """What the check found until it ended, however it ended."""
    found: list[Finding] = []
    try:
        found.extend(check(place))
    except TaskloomError as error:
        found.append(Finding(name, "broken", error.message))
    except Exception as error:  # a doctor that dies of what it finds helps nobody
        found.append(Finding(name, "broken", f"the check itself failed: {type(error).__name__}: {error}"))
    return found


# --- the server -------------------------------------------------------------------------------------------


def check_server(place: Place) -> Findings:
    if place.client is None:
        yield Finding(
            "server",
            "broken",
            f"no server is known: neither TASKLOOM_URL nor a connection file in {place.data}",
            "start one here with `taskloom up`, or set TASKLOOM_URL and TASKLOOM_API_KEY",
        )
        return
    url = place.client.address.url
    begun = time.monotonic()
    try:
        told = place.client.call(op.HEALTH)
    except ServerAway as error:
        yield Finding("server", "broken", error.message, "start it with `taskloom up`, or correct TASKLOOM_URL")
        return
    place.client.call(op.HEALTH)
    seconds = (time.monotonic() - begun) / 2
    slow = seconds > SLOW
    yield Finding(
        "server",
        "warning" if slow else "ok",
        f"{url} answers in {seconds * 1000:.0f} ms, version {told.version}",
        "it is slow: look at its machine's disk and processors" if slow else "",
    )
    if told.version != VERSION:
        advice = "install the same version on both sides when something does not work"
        yield Finding("server", "note", f"this machine has version {VERSION}, the server {told.version}", advice)


def check_key(place: Place) -> Findings:
    assert place.client is not None
    try:
        told = place.client.call(op.SERVER_INFO)
    except (Unauthorized, Forbidden) as error:
        advice = "set TASKLOOM_API_KEY to a key of that server; `taskloom key create` on its machine makes one"
        yield Finding("key", "broken", error.message, advice)
        return
    except ServerAway:
        yield Finding("key", "note", "not looked at: the server does not answer")
        return
    yield Finding("key", "ok", f"valid, of {told.user}, role {told.role}")
    skew = told.time - time.time()
    if abs(skew) > 60:
        message = f"the server's clock is {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} this machine's"
        yield Finding("key", "warning", message, "set the clocks by NTP: times of tasks will look wrong")


def check_workers(place: Place) -> Findings:
    assert place.client is not None
    try:
        queues = place.client.call(op.LIST_QUEUES).queues
        workers = place.client.call(op.LIST_WORKERS).workers
    except (ServerAway, Unauthorized, Forbidden):
        yield Finding("workers", "note", "not looked at: the server does not answer with this key")
        return
    alive = [worker for worker in workers if worker.alive]
    yield Finding("workers", "ok" if alive else "note", f"{len(alive)} alive, {len(workers) - len(alive)} silent")
    for queue in queues:
        serving = [w for w in alive if {queue.id, queue.name} & set(w.queues) and not w.draining]
        if not queue.waiting or serving:
            continue
        if queue.paused:
            yield Finding("workers", "warning", f"{queue.waiting} tasks wait in {queue.name!r}, which is paused")
            continue
        yield Finding(
            "workers",
            "broken",
            f"{queue.waiting} tasks wait in {queue.name!r} and no worker looks there",
            f"start one: `taskloom worker --queue {queue.name}`",
        )


# --- this machine -----------------------------------------------------------------------------------------


def check_data(place: Place) -> Findings:
    folder = place.data
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".doctor-") as probe:
            probe.write(b"x" * 4096)
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as error:
        message = f"{folder} cannot be written: {error.strerror or error}"
        yield Finding("data folder", "broken", message, "correct its owner or mode, or set TASKLOOM_DATA")
        return
    free = shutil.disk_usage(folder).free
    state: State = "broken" if free < FULL else "warning" if free < NEARLY_FULL else "ok"
    made = "" if place.data.exists() else " (not made yet)"
    yield Finding(
        "data folder",
        state,
        f"{place.data}{made} can be written, {size(free)} free",
        "" if state == "ok" else "make room: recording stops when the disk is full",
    )


def check_settings(_: Place) -> Findings:
    file = configuration.config_file()
    wrong = configuration.faults()
    for fault in wrong:
        advice = "correct it: commands refuse it, scripts leave it out; `taskloom config` shows what holds"
        yield Finding("settings", "broken", fault, advice)
    for remark in configuration.remarks():
        yield Finding("settings", "warning", remark)
    if not wrong:
        yield Finding("settings", "ok", f"{file}" if file.exists() else f"no settings file at {file}")


def check_journals(place: Place) -> Findings:
    from taskloom.cli.journal import look_at

    found = [look_at(folder) for folder in layout.task_folders(layout.journal_root(place.data))]
    journals = [journal for journal in found if journal is not None]
    refused = [journal for journal in journals if journal.refused]
    waiting = [j for j in journals if not (j.refused or j.writing or j.shipping or j.offline)]
    if not refused and not waiting:
        busy = f", {len(journals)} at work or offline" if journals else ""
        yield Finding("journals", "ok", f"nothing waits to be shipped{busy}")
    if waiting:
        total = size(sum(journal.bytes for journal in waiting))
        message = f"{len(waiting)} journals ({total}) wait for the server"
        yield Finding("journals", "warning", message, "`taskloom journal ship` sends them")
    for journal in refused:
        message = f"the server refused what task {journal.task} ({journal.name}) still has: {journal.refused}"
        yield Finding("journals", "warning", message, f"it is kept at {journal.path}")


def check_programs(place: Place) -> Findings:
    """What a worker on this machine needs to prepare tasks."""
    yield Finding("programs", "ok", f"python {sys.version.split()[0]} at {sys.executable}")
    git = shutil.which("git")
    if git is None:
        message, advice = "git is not there", "install it: a worker here cannot check out repositories without it"
        yield Finding("programs", "warning", message, advice)
    else:
        yield _says_version("git", [git, "--version"])
    try:
        from uv import find_uv_bin

        yield _says_version("uv", [find_uv_bin(), "--version"])
    except (ImportError, FileNotFoundError):
        advice = "install Taskloom anew: a worker here cannot build environments without it"
        yield Finding("programs", "warning", "uv is not there", advice)


def _says_version(name: str, argv: list[str]) -> Finding:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=PROGRAM_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        return Finding("programs", "warning", f"{name} does not run: {error}", f"install {name} anew")
    return Finding("programs", "ok", f"{done.stdout.strip() or name} at {argv[0]}")


# --- ClearML's clients ------------------------------------------------------------------------------------


def check_clearml(place: Place) -> Findings:
    """Where ClearML's clients on this machine would go."""
    told = conf.read_conf()
    if not told.api_server:
        message = "no clearml.conf and no CLEARML_API_HOST: ClearML's clients here are not pointed anywhere"
        yield Finding("clearml", "note", message, "`taskloom clearml-config` points them at this server")
        return
    url = "" if place.client is None else place.client.address.url
    by = told.source("api_server")
    if not url or not _same_server(told.api_server, url):
        message = f"ClearML's clients here go to {told.api_server} (said by {by}), not to this server"
        yield Finding("clearml", "note", message, "`taskloom clearml-config --force` points them at this server")
        return
    yield Finding("clearml", "ok", f"ClearML's clients here go to this server (said by {by})")
    if not _same_server(told.files_server, url) or not urlsplit(told.files_server).path.startswith(conf.FILES):
        message = f"but their files go to {told.files_server or 'the default of ClearML'}"
        advice = f"set files_server to {url}{conf.FILES}"
        yield Finding("clearml", "warning", message, advice)
    if not told.access_key or not told.secret_key:
        yield Finding("clearml", "broken", "but they have no key", "`taskloom clearml-config --force` makes one")
        return
    yield from _check_clearml_key(told)


def _check_clearml_key(told: conf.Conf) -> Findings:
    from taskloom.wire.client import Address

    key = told.secret_key
    if not key.startswith(conf.KEY_PREFIX):
        key = f"{conf.KEY_PREFIX}{told.access_key.removeprefix(conf.KEY_PREFIX)}_{key}"
    client = Client(Address(told.api_server.rstrip("/"), key))
    try:
        found = client.call(op.SERVER_INFO)
    except (Unauthorized, Forbidden) as error:
        advice = "`taskloom clearml-config --force` writes a fresh one"
        yield Finding("clearml", "broken", f"but their key is refused: {error.message}", advice)
        return
    except ServerAway:
        yield Finding("clearml", "note", "their key was not looked at: the server does not answer")
        return
    finally:
        client.close()
    if found.role == "viewer":
        yield Finding("clearml", "warning", "but their key may only read", "make one with `--role member`")


# --- frameworks -------------------------------------------------------------------------------------------


def check_frameworks(_: Place) -> Findings:
    """What a script of this environment has hooked by itself, as soon as it imports it."""
    absent: list[str] = []
    for found in hooked_here():
        if not found.version:
            absent.append(found.name)
        elif found.too_old:
            message = f"{found.name} {found.version} is older than {found.since}: it is not hooked"
            yield Finding("frameworks", "warning", message, f"update {found.name}, or report by hand")
        else:
            yield Finding("frameworks", "ok", f"{found.name} {found.version}: {', '.join(found.hooks)}")
    if absent:
        yield Finding("frameworks", "note", f"not installed here: {', '.join(absent)}")


def missed_calls(place: Place) -> list[m.UnservedCall]:
    """Nothing when they cannot be read: the other checks say why."""
    try:
        return [] if place.client is None else place.client.call(op.LIST_UNSERVED).calls
    except TaskloomError:
        return []


def _same_server(one: str, other: str) -> bool:
    """By host and port; all names of the loopback are one."""
    local = {"localhost", "127.0.0.1", "::1", "0.0.0.0"}  # noqa: S104 - compared, not listened on

    def place(url: str) -> tuple[str, int | None]:
        parts = urlsplit(url)
        host = (parts.hostname or "").lower()
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
        return "localhost" if host in local else host, port

    try:
        return bool(one) and place(one) == place(other)
    except ValueError:
        return False


# --- telling ----------------------------------------------------------------------------------------------

CHECKS: dict[str, Check] = {
    "server": check_server,
    "key": check_key,
    "data folder": check_data,
    "settings": check_settings,
    "journals": check_journals,
    "workers": check_workers,
    "programs": check_programs,
    "clearml": check_clearml,
    "frameworks": check_frameworks,
}
NEED_SERVER = frozenset({"key", "workers"})


def _show(findings: list[Finding], missed: Sequence[m.UnservedCall]) -> None:
    from rich.text import Text

    console = screen()
    for finding in findings:
        mark, colour = MARKS[finding.state]
        line = Text.assemble((mark, colour), f"  {finding.check:<12} {plain(finding.message)}")
        console.print(line, soft_wrap=True)
        if finding.advice:
            console.print(Text(f"    {'':<12} -> {plain(finding.advice)}"), soft_wrap=True)
    if missed:
        print_table(
            ["call", "count", "last", "client"],
            [(call.call, call.count, ago(call.last), call.client) for call in missed[:SHOWN]],
            title="Calls of ClearML's clients that this server does not serve",
            right=["count"],
        )
        if len(missed) > SHOWN:
            say(f"... and {len(missed) - SHOWN} more; --json lists them all", style="dim")
    broken = sum(finding.state == "broken" for finding in findings)
    say(f"\n{broken} broken" if broken else "\nNothing is broken.")

"""The entry point `taskloom`: which commands there are, and how a failure becomes a message and an exit code.

Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted. An error of `domain.errors` is one line on
standard error (with --json the server's fault body), never a traceback. Only the file of the command that was
asked for is imported, so that `taskloom --version` costs no networking and no tables.
"""

from __future__ import annotations

import functools
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from taskloom.domain.errors import Forbidden, ServerAway, TaskloomError, Unauthorized
from taskloom.domain.version import VERSION
from taskloom.wire.configuration import WrongSettings, check_settings, remarks
from taskloom.wire.worker_protocol import ENV_API_KEY, ENV_DATA, ENV_URL

OK, FAILED, WRONG_USAGE, INTERRUPTED = 0, 1, 2, 130


@dataclass(frozen=True)
class Entry:
    """A command: the module under `taskloom.cli` that holds it, and its name there. `app` is a group."""

    module: str
    attribute: str
    hidden: bool = False


COMMANDS: dict[str, Entry] = {
    "up": Entry("up", "up"),
    "server": Entry("server", "server"),
    "worker": Entry("worker", "worker"),
    "agent": Entry("worker", "worker", hidden=True),
    "run": Entry("run", "run"),
    "init": Entry("init", "init"),
    "validate": Entry("validate", "validate"),
    "task": Entry("task", "app"),
    "eval": Entry("eval", "app"),
    "sync": Entry("sync", "app"),
    "model": Entry("model", "app"),
    "queue": Entry("queue", "app"),
    "project": Entry("project", "app"),
    "env": Entry("env", "app"),
    "journal": Entry("journal", "app"),
    "key": Entry("key", "app"),
    "secret": Entry("secret", "app"),
    "config": Entry("config", "app"),
    "import": Entry("imports", "app"),
    "clearml-config": Entry("clearml_config", "clearml_config"),
    "doctor": Entry("doctor", "doctor"),
    "version": Entry("version", "version"),
}
SETTINGS_MAY_BE_WRONG = frozenset({"config", "doctor", "version"})  # they help to correct them
_TAKES_VALUE = frozenset({"--url", "--api-key", "--data"})


def main(arguments: Sequence[str] | None = None) -> None:
    """The console script; always leaves by SystemExit."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        build_app(wanted_command(words))(words, prog_name="taskloom")
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None
    except TaskloomError as error:
        report_error(error, as_json="--json" in words)
        raise SystemExit(WRONG_USAGE if isinstance(error, WrongSettings) else FAILED) from None
    except BrokenPipeError:  # the reader of our output left; nothing more can be said to it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(FAILED) from None
    except OSError as error:
        named = f"{error.filename}: " if error.filename else ""
        print(f"taskloom: {named}{error.strerror or error}", file=sys.stderr)
        raise SystemExit(FAILED) from None


def wanted_command(words: Sequence[str]) -> str:
    """The first word that is neither an option nor an option's value; empty when there is none."""
    skip = False
    for word in words:
        if skip:
            skip = False
        elif word in _TAKES_VALUE:
            skip = True
        elif not word.startswith("-"):
            return word
    return ""


def show_version(wanted: bool) -> None:
    if wanted:
        print(f"taskloom {VERSION}")
        raise typer.Exit(OK)


def options(
    context: typer.Context,
    url: Annotated[str, typer.Option(help=f"Address of the server [{ENV_URL}].", show_default=False)] = "",
    api_key: Annotated[
        str, typer.Option(help=f"API key; the variable [{ENV_API_KEY}] is safer.", show_default=False)
    ] = "",
    data: Annotated[str, typer.Option(help=f"Data folder of this machine [{ENV_DATA}].", show_default=False)] = "",
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=show_version, is_eager=True)
    ] = False,
) -> None:
    """Options before the command stand for environment variables, so that processes it starts have them too."""
    for name, value in ((ENV_URL, url), (ENV_API_KEY, api_key), (ENV_DATA, data)):
        if value:
            os.environ[name] = value
    if context.invoked_subcommand not in SETTINGS_MAY_BE_WRONG:
        check_settings()
        for remark in remarks():
            print(f"taskloom: {remark}", file=sys.stderr)


def build_app(wanted: str = "") -> typer.Typer:
    """The application with the wanted command, or with all of them when it is none of ours (help, typos)."""
    app = typer.Typer(
        help="Record, queue and run machine-learning work, in which everything is a task.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(options)
    names = [wanted] if wanted in COMMANDS else list(COMMANDS)
    for name in names:
        entry = COMMANDS[name]
        place = f"taskloom.cli.{entry.module}"
        found = getattr(importlib.import_module(place), entry.attribute)
        if isinstance(found, typer.Typer):
            app.add_typer(found, name=name, hidden=entry.hidden)
        else:
            app.command(name, hidden=entry.hidden)(with_exit_code(found))
    return app


def with_exit_code(command: Callable[..., object]) -> Callable[..., None]:
    """The command, leaving with the exit code that it gives back, if it gives one."""

    @functools.wraps(command)
    def run(*args: Any, **options: Any) -> None:
        code = command(*args, **options)
        if isinstance(code, int) and code:
            raise typer.Exit(code)

    return run


def report_error(error: TaskloomError, *, as_json: bool) -> None:
    """The one way in which a failure is told."""
    if as_json:
        import msgspec

        body: dict[str, Any] = {"code": error.code, "message": error.message, "details": error.details}
        sys.stderr.write(msgspec.json.encode({"error": body}, enc_hook=str).decode() + "\n")
        return
    from taskloom.cli.terminal import plain_lines

    print(f"taskloom: {plain_lines(error.message)}{_advice(error)}", file=sys.stderr)


def _advice(error: TaskloomError) -> str:
    """What to do next, where the message alone does not say it."""
    if isinstance(error, ServerAway) and "taskloom up" not in error.message:
        return "; is it running? `taskloom up` starts one here"
    if isinstance(error, Unauthorized):
        return f"; set {ENV_API_KEY} or --api-key to a key of that server (`taskloom key create` makes one)"
    if isinstance(error, Forbidden):
        return "; it needs a key with a higher role"
    return ""


if __name__ == "__main__":
    main()

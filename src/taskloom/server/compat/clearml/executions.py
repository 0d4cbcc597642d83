"""What to run, both ways: ClearML's script, container and execution, and our Execution.

What only ClearML's clients read stays in `Execution.foreign` under ClearML's own names: `requirements` (all but
pip's), `container` (all but image, arguments and setup), `execution` (labels, framework, data views...), `input`,
and `binary` when it is more than a version of Python.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from shlex import quote
from typing import Any, cast

from taskloom.domain.execution import WORKER_BRINGS, Execution
from taskloom.domain.task import Task, TaskEdit
from taskloom.server.compat.clearml.call import table, text, texts

Document = dict[str, Any]

_BROUGHT = re.compile(rf"^# (\S+) {re.escape(WORKER_BRINGS)}$", re.MULTILINE)
_PYTHON = re.compile(r"python(\d+(?:\.\d+)?)")
_SCRIPT = {
    "repository": "repository",
    "branch": "branch",
    "tag": "tag",
    "version_num": "commit",
    "entry_point": "entry_point",
    "working_dir": "working_dir",
    "diff": "diff",
}
_CONTAINER = {"image": "image", "arguments": "image_arguments", "setup_shell_script": "setup"}
_OWN_EXECUTION = frozenset({"artifacts", "docker_cmd", "parameters", "queue", "model_desc"})


# --- told --------------------------------------------------------------------------------------------------


def execution_documents(execution: Execution) -> tuple[Document, Document, Document]:
    """Script, container, and what of ClearML's `execution` is not told elsewhere."""
    foreign = execution.foreign
    requirements: Document = {**_part(foreign, "requirements")}
    if execution.packages:
        requirements["pip"] = _listed(execution.packages)
    script: Document = {
        "binary": _binary(execution),
        **{theirs: getattr(execution, ours) for theirs, ours in _SCRIPT.items()},
        "requirements": requirements,
    }
    if execution.arguments:
        script["entry_point"] = " ".join((execution.entry_point, *map(quote, execution.arguments)))
    container = {
        **_part(foreign, "container"),
        **{theirs: getattr(execution, ours) for theirs, ours in _CONTAINER.items()},
    }
    docker = " ".join(filter(None, (execution.image, execution.image_arguments)))
    return script, container, {**_part(foreign, "execution"), "docker_cmd": docker}


def _listed(packages: str) -> str:
    """Taskloom itself is a requirement for ClearML's agent, which brings none of its own."""
    return _BROUGHT.sub(r"\1", packages)


def _part(foreign: Mapping[str, Any], name: str) -> Document:
    found = foreign.get(name)
    return cast(Document, found) if isinstance(found, dict) else {}


def _binary(execution: Execution) -> str:
    """What a client gave, while it still speaks of the version that is recorded; else made from the version."""
    given = execution.foreign.get("binary")
    if isinstance(given, str) and _version(given) == execution.python:
        return given
    return f"python{'.'.join(execution.python.split('.')[:2])}" if execution.python else ""


def _version(binary: str) -> str:
    """`3.11` of `/usr/bin/python3.11`; empty when the name tells none."""
    found = _PYTHON.fullmatch(binary.strip().rpartition("/")[2])
    return found[1] if found else ""


# --- given -------------------------------------------------------------------------------------------------


class GivenExecution:
    """Fields of an execution, gathered from the three places where ClearML has them."""

    def __init__(self, found: Execution) -> None:
        self._found = found
        self._told = execution_documents(found)
        self._foreign = dict(found.foreign)
        self._changes: dict[str, Any] = {}

    @property
    def fields(self) -> dict[str, Any]:
        foreign = {name: value for name, value in self._foreign.items() if not _empty(value)}
        return self._changes if foreign == self._found.foreign else {**self._changes, "foreign": foreign}

    def script(self, body: Mapping[str, Any]) -> None:
        told = self._told[0]
        script = table(body, "script")
        for theirs, ours in _SCRIPT.items():
            if script.get(theirs) is not None and (value := text(script, theirs)) != told[theirs]:
                self._changes[ours] = value
                if ours == "entry_point" and self._found.arguments:
                    self._changes["arguments"] = ()
        if "binary" in script and (binary := text(script, "binary")) != told["binary"]:
            self._changes["python"] = _version(binary)
            self._foreign["binary"] = binary
        if script.get("requirements") is not None:
            self.requirements(script["requirements"])

    def requirements(self, given: Any) -> None:
        """A dictionary of texts by the tool that installs them; a text alone is pip's."""
        named = table({"requirements": given if isinstance(given, dict) else {"pip": given}}, "requirements")
        kept = {n: v for n, v in named.items() if v is not None}
        pip = _lines(kept.get("pip"))
        if pip:
            del kept["pip"]
        if pip != _listed(self._found.packages):
            self._changes["packages"] = pip
        self._foreign["requirements"] = kept

    def container(self, body: Mapping[str, Any]) -> None:
        if body.get("container") is None:
            return
        container = table(body, "container")
        for theirs, ours in _CONTAINER.items():
            self._set(ours, _lines(container.get(theirs), " "))
        self._foreign["container"] = {n: v for n, v in container.items() if n not in _CONTAINER and v is not None}

    def execution(self, body: Mapping[str, Any]) -> None:
        execution = table(body, "execution")
        kept = {n: v for n, v in execution.items() if n not in _OWN_EXECUTION and v is not None}
        merged = {**_part(self._foreign, "execution"), **kept}
        self._foreign["execution"] = {n: v for n, v in merged.items() if not _empty(v)}
        docker = text(execution, "docker_cmd")
        if docker and docker != self._told[2]["docker_cmd"] and body.get("container") is None:
            image, _, arguments = docker.strip().partition(" ")
            self._set("image", image)
            self._set("image_arguments", arguments.strip())
        if body.get("input") is not None and (given := table(body, "input")) != {"view": {}}:
            self._foreign["input"] = given

    def _set(self, field: str, value: str) -> None:
        if value != getattr(self._found, field):
            self._changes[field] = value


def requirements_edit(found: Task, given: Any) -> TaskEdit:
    """Only the packages, as `tasks.set_requirements` has them."""
    gathered = GivenExecution(found.execution)
    gathered.requirements(given)
    return TaskEdit(execution=gathered.fields or None)


def _empty(value: Any) -> bool:
    return value is None or value in ("", [], {})


def _lines(value: Any, between: str = "\n") -> str:
    """A text, or a list of them; nothing is the empty text."""
    if isinstance(value, list):
        return between.join(texts({"lines": value}, "lines"))
    return text({"text": value}, "text")

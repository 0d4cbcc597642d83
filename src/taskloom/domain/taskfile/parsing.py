"""From the text of a task.yaml to an Execution and described parameters; every problem is told, with its place."""

from __future__ import annotations

from typing import Any

import msgspec

from taskloom.domain.errors import BadInput
from taskloom.domain.execution import Execution, Resources, Retries, Sweep
from taskloom.domain.parameters import Sections
from taskloom.domain.repository import is_commit
from taskloom.domain.task import TaskType
from taskloom.domain.taskfile import remarks
from taskloom.domain.taskfile.fields import MISUSED, RESOURCES, RETRIES, SWEEPS, TASK, Field
from taskloom.domain.taskfile.grids import read_grid
from taskloom.domain.taskfile.kinds import COUNT, MISSING
from taskloom.domain.taskfile.nodes import Mapping, Node, Scalar, read_nodes
from taskloom.domain.taskfile.problems import Findings, Place, Problem, Unreadable, WrongTaskFile
from taskloom.domain.taskfile.quantities import read_accelerators
from taskloom.domain.taskfile.scalars import only_old_yaml, scalar_value, shown
from taskloom.domain.taskfile.schemas import read_parameters
from taskloom.domain.taskfile.values import Schemas, defaults, nearest
from taskloom.domain.variables import wrong_name

FILE_NAME = "task.yaml"
REMOTE = "REMOTE"  # the type that Transformer Lab's command writes
FOREIGN = "task.yaml"  # key in `Execution.foreign` of what is kept and not used


class TaskFile(msgspec.Struct, frozen=True, omit_defaults=True):
    """A recipe: queued, it becomes a task. `text` is the file as it was read; `provider` a wish.

    `parameters` are the defaults, in the section General, as `schemas` describe them.
    """

    text: str
    name: str
    execution: Execution
    description: str = ""
    type: TaskType = TaskType.TRAINING
    project: str = ""
    tags: tuple[str, ...] = ()
    provider: str = ""
    schemas: Schemas = {}
    warnings: tuple[Problem, ...] = ()

    @property
    def parameters(self) -> Sections:
        return defaults(self.schemas)


def parse(text: str, name: str = FILE_NAME) -> TaskFile:
    """The task file, or WrongTaskFile with everything that is wrong in it. `name`: how messages call the file."""
    findings = Findings()
    try:
        document = _unwrapped(read_nodes(text, findings), findings)
        file = _Parser(document, text, findings).parse()
    except Unreadable:
        raise WrongTaskFile(name, tuple(findings.problems), tuple(findings.warnings)) from None
    return msgspec.structs.replace(file, warnings=findings.close(name))


def _unwrapped(document: Node, findings: Findings) -> Mapping:
    """The map of fields; an older form holds all of it under one key, `task`."""
    if isinstance(document, Mapping) and len(document.entries) == 1 and document.entries[0][0].text == "task":
        document = document.entries[0][1]
    if not isinstance(document, Mapping):
        findings.wrong(
            document.place, "", f"expected the fields of a task, such as `name: ...`, got {shown(document)}"
        )
        raise Unreadable
    return document


class _Parser:
    """One file while it is parsed."""

    def __init__(self, document: Mapping, text: str, findings: Findings) -> None:
        self._findings, self._text = findings, text
        self._places: dict[str, Place] = {}
        self._nodes: dict[str, Node] = {}
        self._top = self._fields(document, "", TASK)

    def parse(self) -> TaskFile:
        top, findings = self._top, self._findings
        start = Place(1, 1)
        for needed, example in (("name", "name: my-task"), ("run", "run: python train.py")):
            if needed not in self._nodes:
                findings.wrong(start, needed, f"is missing; expected such as `{example}`")
        run = str(top.get("run", ""))
        if "run" in top and not run.strip():
            findings.wrong(self._places["run"], "run", "is empty; expected shell text such as `python train.py`")
        schemas = read_parameters(self._nodes["parameters"], findings) if "parameters" in self._nodes else {}
        kind = self._type()
        variables = self._variables(schemas)
        resources, kept, provider, image = self._resources()
        reference = str(top.get("github_repo_branch", ""))
        execution = Execution(
            repository=top.get("github_repo_url", ""),
            directory=top.get("github_repo_dir", ""),
            run=run,
            setup=_setup(str(top.get("setup", ""))),
            image=top.get("image", "") or image,
            image_arguments=top.get("image_arguments", ""),
            mounts=top.get("mounts", ()),
            variables=variables,
            secrets=top.get("secrets", ()),
            resources=resources,
            time_limit=self._time_limit(),
            priority=top.get("priority", 0),
            preemptible=top.get("preemptible", False),
            retries=self._retries(),
            sweep=self._sweep(schemas),
            foreign={FOREIGN: kept} if kept else {},
            commit=reference if is_commit(reference) else "",
            branch="" if is_commit(reference) else reference,
        )
        self._check_together(execution)
        self._look(schemas)
        return TaskFile(
            text=self._text,
            name=top.get("name", ""),
            execution=execution,
            description=top.get("description", ""),
            type=kind,
            project=top.get("project", ""),
            tags=top.get("tags", ()),
            provider=provider,
            schemas=schemas,
        )

    # --- fields -------------------------------------------------------------------------------------------

    def _fields(self, mapping: Mapping, where: str, fields: tuple[Field, ...]) -> dict[str, Any]:
        """The values by the field's own name; what is not known is told with the nearest that is."""
        known = {spelled: field for field in fields for spelled in (field.name, *field.synonyms)}
        values: dict[str, Any] = {}
        written: dict[str, str] = {}
        for key, node in mapping.entries:
            path = f"{where}.{key.text[:80]}" if where else key.text[:80]
            field = known.get(key.text)
            if field is None:
                self._unknown(key, where, path, known)
                continue
            value = field.kind.read(node, path, self._findings)
            slot = f"{where}.{field.name}" if where else field.name
            if field.name in written:
                self._again(key, path, value, values.get(field.name, MISSING), written[field.name])
                continue
            written[field.name] = key.text
            self._places[slot], self._nodes[slot] = node.place, node
            if value is not MISSING:
                values[field.name] = value
            if field.note:
                self._findings.odd(key.place, path, field.note)
        return values

    def _unknown(self, key: Scalar, where: str, path: str, known: dict[str, Field]) -> None:
        hint = MISUSED.get(where, {}).get(key.text)
        advice = f"; {hint}" if hint else nearest(key.text, known)
        own = ", ".join(name for name, field in known.items() if name == field.name)
        listed = "" if advice else f"; expected one of {own}"
        self._findings.wrong(key.place, path, f"no such field{advice}{listed}")

    def _again(self, key: Scalar, path: str, value: Any, first: Any, name: str) -> None:
        """Two names of one field: the same value twice is harmless. `title` beside `name` is another text by right."""
        if key.text == "title" or name == "title":
            self._findings.odd(key.place, path, f"not used beside `{name}`")
        elif value is MISSING or first is MISSING or value == first:
            self._findings.odd(key.place, path, f"says the same as `{name}`")
        else:
            self._findings.wrong(key.place, path, f"is the same field as `{name}` and has another value")

    def _mapping(self, name: str, fields: tuple[Field, ...], node: Node | None = None) -> dict[str, Any]:
        node = node or self._nodes.get(name)
        if node is None or (isinstance(node, Scalar) and scalar_value(node) is None):
            return {}
        if not isinstance(node, Mapping):
            names = ", ".join(field.name for field in fields[:4])
            self._findings.wrong(node.place, name, f"expected a map of fields such as {names}, got {shown(node)}")
            return {}
        return self._fields(node, name, fields)

    # --- parts --------------------------------------------------------------------------------------------

    def _type(self) -> TaskType:
        written = str(self._top.get("type", ""))
        if not written or written.upper() == REMOTE:
            return TaskType.TRAINING
        try:
            return TaskType(written.lower())
        except ValueError:
            names = [kind.value for kind in TaskType]
            message = f"expected one of {', '.join(names)}, got {written[:80]!r}{nearest(written, names)}"
            self._findings.wrong(self._places["type"], "type", message)
            return TaskType.TRAINING

    def _variables(self, schemas: Schemas) -> dict[str, str]:
        node = self._nodes.get("envs")
        found: dict[str, str] = {}
        if isinstance(node, Mapping):
            for key, value in node.entries:
                path = f"envs.{key.text[:80]}"
                if wrong := wrong_name(key.text):
                    self._findings.wrong(key.place, path, wrong)
                elif not isinstance(value, Scalar):
                    self._findings.wrong(value.place, path, f"expected a text, got {shown(value)}")
                elif "\0" in value.text:
                    self._findings.wrong(value.place, path, "holds a NUL character")
                else:
                    found[key.text] = "" if scalar_value(value) is None else value.text
        elif node is not None and not (isinstance(node, Scalar) and scalar_value(node) is None):
            self._findings.wrong(node.place, "envs", f"expected a map of names and texts, got {shown(node)}")
        for name, schema in schemas.items():
            if schema.variable:
                if schema.variable in found:
                    where = self._places["parameters"]
                    message = f"{schema.variable} stands in `envs`, too; the parameter's value is taken"
                    self._findings.odd(where, f"parameters.{name[:80]}.env_var", message)
                found[schema.variable] = f"{{{{param.{name}}}}}"
        return found

    def _resources(self) -> tuple[Resources, dict[str, Any], str, str]:
        """Resources, what is kept for other systems, the provider's name, an image."""
        found = self._mapping("resources", RESOURCES)
        gpu_type, gpus = found.get("accelerators", ("", None))
        provider = str(found.get("compute_provider", ""))
        if (misused := self._misused_provider(provider, "accelerators" in found)) is not None:
            provider = ""
            gpu_type, gpus = found.get("accelerators", misused)
        resources = Resources(
            cpus=found.get("cpus"),
            memory=found.get("memory"),
            disk=found.get("disk_space"),
            gpus=gpus,
            gpu_type=gpu_type,
            nodes=found.get("num_nodes", 1),
        )
        if resources.nodes > 1:
            message = "runs on several machines; workers of one machine do not take it"
            self._findings.odd(self._places["resources.num_nodes"], "resources.num_nodes", message)
        kept = {field.name: found[field.name] for field in RESOURCES if field.note and field.name in found}
        if provider:
            kept["compute_provider"] = provider
            message = "kept with the task; the queue decides where it runs"
            self._findings.odd(self._places["resources.compute_provider"], "resources.compute_provider", message)
        return resources, kept, provider, self._image(str(found.get("image_id", "")), kept)

    def _misused_provider(self, provider: str, given: bool) -> tuple[str, int] | None:
        """`RTX3090:1` stands there in real files."""
        name, colon, count = provider.rpartition(":")
        if not colon or not count.strip().isdecimal():
            return None
        try:
            gpu_type, gpus, _ = read_accelerators(provider)
        except BadInput:
            return None
        what = "left out" if given else "read as accelerators"
        message = f'no provider is called {name}:{count}; {what}: write accelerators: "{provider}"'
        self._findings.odd(self._places["resources.compute_provider"], "resources.compute_provider", message)
        return gpu_type, gpus

    def _image(self, written: str, kept: dict[str, Any]) -> str:
        scheme, colon, image = written.partition(":")
        if not written:
            return ""
        if colon and scheme == "docker" and image:
            if self._top.get("image", image) != image:
                where = self._places["resources.image_id"]
                self._findings.wrong(where, "resources.image_id", "names another image than `image` does")
            return image
        kept["image_id"] = written
        message = "no container image (those are written docker:IMAGE); kept with the task, not used"
        self._findings.odd(self._places["resources.image_id"], "resources.image_id", message)
        return ""

    def _time_limit(self) -> float:
        limit, minutes = self._top.get("time_limit"), self._top.get("minutes_requested")
        if minutes is not None:
            use = "not used beside `time_limit`" if limit is not None else "taken as the time limit of an attempt"
            self._findings.odd(self._places["minutes_requested"], "minutes_requested", use)
        return float(limit if limit is not None else (minutes or 0) * 60)

    def _retries(self) -> Retries:
        node = self._nodes.get("retries")
        if isinstance(node, Scalar) and scalar_value(node) is not None:
            count = COUNT.read(node, "retries", self._findings)
            return Retries() if count is MISSING else Retries(failed=count)
        return Retries(**self._mapping("retries", RETRIES))

    def _sweep(self, schemas: Schemas) -> Sweep | None:
        if "sweeps" not in self._nodes:
            return None
        found = self._mapping("sweeps", SWEEPS)
        node = self._nodes.get("sweeps.sweep_config")
        if node is None or (isinstance(node, Scalar) and scalar_value(node) is None):
            if isinstance(self._nodes["sweeps"], Mapping):
                where = self._places["sweeps"]
                self._findings.wrong(
                    where, "sweeps.sweep_config", "is missing; expected lists of values by parameter"
                )
            return None
        if not isinstance(node, Mapping) or not node.entries:
            message = f"expected lists of values by parameter, got {shown(node)}"
            self._findings.wrong(node.place, "sweeps.sweep_config", message)
            return None
        given = {
            name: found[key]
            for name, key in (("metric", "sweep_metric"), ("lower_is_better", "lower_is_better"))
            if found.get(key) not in {None, ""}
        }
        return Sweep(read_grid(node, schemas, self._findings), **given)

    # --- the whole ----------------------------------------------------------------------------------------

    def _check_together(self, execution: Execution) -> None:
        for name in ("github_repo_dir", "github_repo_branch"):
            if name in self._top and self._top[name] and not execution.repository:
                message = "says something about a repository, and `github_repo_url` is missing"
                self._findings.odd(self._places[name], name, message)
        if (execution.mounts or execution.image_arguments) and not execution.image:
            name = "mounts" if execution.mounts else "image_arguments"
            self._findings.odd(self._places[name], name, "is for containers, and there is no `image`")

    def _look(self, schemas: Schemas) -> None:
        """Texts that are hardly what was meant."""
        for path, node in self._texts():
            remarks.look_at_text(node, path, self._findings)
            if not path.startswith("parameters"):
                remarks.look_at_parameters(node, path, schemas, self._findings)
            if path.startswith("envs."):
                remarks.look_at_variable(node, path, self._findings)
            elif path in {"setup", "run"}:
                remarks.look_at_setup(node, path, self._findings)
            if node.plain and only_old_yaml(node.text) and path.startswith("parameters"):
                self._findings.odd(
                    node.place, path, f"{node.text[:80]!r} is text here; quote it, or write the number"
                )
        for name, schema in schemas.items():
            if schema.hidden and schema.default and "{{secret" not in str(schema.default):
                message = "stands readable in the task; name a secret as {{secret.NAME}}"
                self._findings.odd(self._places["parameters"], f"parameters.{name[:80]}", message)

    def _texts(self) -> list[tuple[str, Scalar]]:
        found: list[tuple[str, Scalar]] = []
        for name in ("run", "setup", "image", "image_arguments", "envs", "parameters"):
            if name in self._nodes:
                _collect(name, self._nodes[name], found)
        return found


def _collect(path: str, node: Node, found: list[tuple[str, Scalar]]) -> None:
    if isinstance(node, Scalar):
        found.append((path, node))
    elif isinstance(node, Mapping):
        for key, value in node.entries:
            _collect(f"{path}.{key.text[:80]}", value, found)
    else:
        for item in node.items:
            _collect(path, item, found)


def _setup(text: str) -> str:
    """Without the `;` at its end that many files have."""
    whole = text.strip()
    cut = whole.rstrip("; \t\r\n")
    return whole if ";;" in whole[len(cut) :] else cut


def schemas_of(text: str) -> Schemas:
    """The parameters that a file describes, of a task that keeps its text; none when the text is no task file."""
    findings = Findings()
    try:
        document = _unwrapped(read_nodes(text, findings), findings)
        node = document.get("parameters")
        return read_parameters(node, findings) if node is not None else {}
    except Unreadable:
        return {}

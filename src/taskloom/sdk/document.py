"""What a task says about itself, read and edited: names, tags, parameters, configuration, properties, results.

One class for every task, wherever it runs: an edit goes through the recorder, which journals it for the live
task and asks the server for any other. Making, finding, queueing and ending tasks is `task`.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from taskloom.domain import task as words
from taskloom.domain.errors import BadInput
from taskloom.domain.metrics import from_wire
from taskloom.domain.parameters import (
    DEFAULT_SECTION,
    Parameter,
    decode,
    encode,
    flatten,
    split_name,
)
from taskloom.domain.project import check_name, check_project
from taskloom.domain.status import Status
from taskloom.domain.task import ARCHIVED_TAG, ConfigurationObject, Property, TaskEdit
from taskloom.sdk.connecting import (
    Connected,
    as_sections,
    configuration_back,
    configuration_text,
    parse_configuration,
    section_of,
)
from taskloom.sdk.remote import RemoteTask
from taskloom.sdk.reports.logger import Logger
from taskloom.sdk.session import Session
from taskloom.sdk.start import check_tags
from taskloom.wire.connection import find_address
from taskloom.wire.messages import ConsoleQuery, PointsQuery
from taskloom.wire.operations import GET_CONSOLE, GET_POINTS, GET_TASK, LIST_SERIES
from taskloom.wire.records import Edited

if TYPE_CHECKING:
    from taskloom.wire.send import Client


class TaskDocument:
    """One task. `Task.init`, `Task.get_task` and their like make it; nobody else has to."""

    def __init__(self, recorder: Session | RemoteTask) -> None:
        self._recorder = recorder
        self._connected: list[Connected] = []

    def __repr__(self) -> str:
        document = self._recorder.document()
        return f"Task(id={document.id!r}, name={document.name!r}, project={document.project!r})"

    # --- who it is ----------------------------------------------------------------------------------------

    @property
    def id(self) -> str:
        return self._recorder.id

    @property
    def task_id(self) -> str:
        return self._recorder.id

    @property
    def name(self) -> str:
        return self._recorder.document().name

    @property
    def project(self) -> str:
        """The path of its project."""
        return self._recorder.document().project

    @property
    def parent(self) -> str:
        return self._recorder.document().parent

    @property
    def task_type(self) -> words.TaskType:
        return self._recorder.document().type

    @property
    def comment(self) -> str:
        return self._recorder.document().comment

    @property
    def data(self) -> words.Task:
        """Everything that is known of it here, as one frozen value."""
        return self._recorder.document()

    @property
    def output_uri(self) -> str:
        """Where its models and artifacts are stored; `taskloom:` is the Taskloom server, '' when nobody chose."""
        return self._recorder.document().output_uri

    @output_uri.setter
    def output_uri(self, value: str | Path | bool | None) -> None:
        """From now on, as `output_uri` of `Task.init`. BadInput for what is no destination."""
        self._edit(TaskEdit(output_uri=destination_of_user(value)))

    def get_project_name(self) -> str:
        return self.project

    def get_output_log_web_page(self) -> str:
        """The task's page; empty when no server is configured."""
        address = find_address()
        return address.task(self.id) if address is not None else ""

    def reload(self) -> None:
        """Read it again from the server; what the live run said itself stays."""
        if isinstance(self._recorder, RemoteTask):
            self._recorder.reload()

    def set_name(self, name: str) -> None:
        self._edit(TaskEdit(name=check_name(name, "task name")))

    def set_comment(self, comment: str) -> None:
        if len(comment) > words.SHORT_TEXT:
            raise BadInput(f"comment of {len(comment)} characters; at most {words.SHORT_TEXT} are possible")
        self._edit(TaskEdit(comment=comment.replace("\0", "�")))

    def set_parent(self, parent: TaskDocument | str) -> None:
        self._edit(TaskEdit(parent=parent if isinstance(parent, str) else parent.id))

    def set_task_type(self, task_type: words.TaskType | str) -> None:
        from taskloom.sdk.start import check_type

        self._edit(TaskEdit(type=check_type(task_type)))

    def move_to_project(self, new_project_name: str) -> bool:
        self._edit(TaskEdit(project=check_project(new_project_name)))
        return True

    set_project = move_to_project

    # --- state and results --------------------------------------------------------------------------------

    @property
    def status(self) -> str:
        return self.get_status()

    def get_status(self) -> str:
        """draft, pending, running, completed, failed, aborted or published; asked anew for other tasks."""
        if isinstance(self._recorder, RemoteTask):
            self._recorder.reload()
        return self._recorder.document().status.value

    def wait_for_status(
        self,
        status: Iterable[str] = (Status.COMPLETED, Status.ABORTED, Status.PUBLISHED),
        raise_on_status: Iterable[str] | None = (Status.FAILED,),
        check_interval_sec: float = 5.0,
    ) -> None:
        """Wait for one of the states; RuntimeError when it comes to one of `raise_on_status` first."""
        wanted, refused = _names(status), _names(raise_on_status or ())
        while True:
            found = self.get_status()
            if found in wanted:
                return
            if found in refused:
                raise RuntimeError(f"task {self.id} is {found}: {self._recorder.document().status_reason}")
            time.sleep(check_interval_sec)

    def set_progress(self, progress: float) -> None:
        """How far it is, 0 to 100."""
        if isinstance(progress, bool) or not isinstance(progress, int | float) or not 0 <= progress <= 100:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise BadInput(f"progress {progress!r}: expected a number from 0 to 100")
        self._edit(TaskEdit(progress=float(progress)))

    def get_progress(self) -> float | None:
        return self._recorder.document().progress

    def get_last_iteration(self) -> int:
        """The highest iteration reported, 0 when there is none."""
        if isinstance(self._recorder, Session):
            newest = self._recorder.logger.newest_iteration()
            if newest is not None:
                return newest
        return self._recorder.document().last_iteration or 0

    def set_initial_iteration(self, offset: int = 0) -> int:
        """Add `offset` to every iteration that is reported from now on."""
        if isinstance(offset, bool) or not isinstance(offset, int):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise BadInput(f"initial iteration {offset!r}: expected a whole number")
        self.get_logger().iteration_offset = offset
        return offset

    def get_initial_iteration(self) -> int:
        return self.get_logger().iteration_offset

    def get_logger(self) -> Logger:
        return self._recorder.logger

    def get_reported_scalars(
        self, max_samples: int = 0, x_axis: str = "iter"
    ) -> dict[str, dict[str, dict[str, list[Any]]]]:
        """`{title: {series: {"x": [...], "y": [...]}}}`; x is the iteration, or with "timestamp" the time (s)."""
        if x_axis not in {"iter", "timestamp"}:
            raise BadInput(f"x_axis {x_axis!r}: expected 'iter' or 'timestamp'")
        client = self._reading_client()
        found: dict[str, dict[str, dict[str, list[Any]]]] = {}
        for summary in client.call(LIST_SERIES, task=self.id).series:
            query = PointsQuery(title=summary.title, series=summary.series, points=max_samples)
            points = client.call(GET_POINTS, query=query, task=self.id)
            xs: list[Any] = list(points.iteration if x_axis == "iter" else points.time)
            ys: list[Any] = [from_wire(value) for value in points.value]
            found.setdefault(summary.title, {})[summary.series] = {"x": xs, "y": ys}
        return found

    def get_last_scalar_metrics(self) -> dict[str, dict[str, dict[str, float]]]:
        """`{title: {series: {"last", "min", "max"}}}`."""
        found: dict[str, dict[str, dict[str, float]]] = {}
        for summary in self._reading_client().call(LIST_SERIES, task=self.id).series:
            found.setdefault(summary.title, {})[summary.series] = {
                "last": from_wire(summary.last),
                "min": from_wire(summary.min),
                "max": from_wire(summary.max),
            }
        return found

    def get_reported_single_values(self) -> dict[str, float]:
        from taskloom.domain.metrics import SINGLE_VALUE_TITLE

        values = self.get_last_scalar_metrics().get(SINGLE_VALUE_TITLE, {})
        return {name: value["last"] for name, value in values.items()}

    def get_reported_single_value(self, name: str) -> float | None:
        return self.get_reported_single_values().get(name)

    def get_reported_console_output(self, number_of_reports: int = 1) -> list[str]:
        """The last pieces of the console, oldest first."""
        query = ConsoleQuery(tail=max(number_of_reports, 1))
        return [
            entry.text for entry in self._reading_client().call(GET_CONSOLE, query=query, task=self.id).entries
        ]

    # --- tags ---------------------------------------------------------------------------------------------

    def get_tags(self) -> list[str]:
        return list(self._recorder.document().tags)

    def set_tags(self, tags: Sequence[str] | str) -> None:
        self._edit(TaskEdit(tags=check_tags(tags)))

    def add_tags(self, tags: Sequence[str] | str) -> None:
        self._edit(TaskEdit(add_tags=check_tags(tags)))

    def remove_tags(self, tags: Sequence[str] | str) -> None:
        self._edit(TaskEdit(remove_tags=check_tags(tags)))

    def get_system_tags(self) -> list[str]:
        return list(self._recorder.document().system_tags)

    def set_system_tags(self, tags: Sequence[str]) -> None:
        self._edit(TaskEdit(system_tags=check_tags(tags)))

    def set_archived(self, archive: bool) -> None:
        kept = [tag for tag in self.get_system_tags() if tag != ARCHIVED_TAG]
        self.set_system_tags([*kept, ARCHIVED_TAG] if archive else kept)

    def get_archived(self) -> bool:
        return ARCHIVED_TAG in self._recorder.document().system_tags

    # --- parameters ---------------------------------------------------------------------------------------

    def set_parameters(self, *args: Mapping[str, Any], **kwargs: Any) -> None:
        """Replace all parameters: `{'Args/epochs': 7, 'lr': 0.5}`; without a section it is `General`."""
        self._edit(TaskEdit(parameters=_optional(_merged(args, kwargs)), replace_parameters=True))

    def update_parameters(self, *args: Mapping[str, Any], **kwargs: Any) -> None:
        """Add parameters and overwrite those that are there."""
        self._edit(TaskEdit(parameters=_optional(_merged(args, kwargs))))

    def set_parameters_as_dict(self, dictionary: Mapping[str, Any]) -> None:
        """Add parameters; a nested dictionary is a section, `section/name` works, too."""
        self.update_parameters(dictionary)

    def set_parameter(
        self, name: str, value: Any, description: str | None = None, value_type: type | str | None = None
    ) -> None:
        section, key = split_name(name)
        parameter = encode(value, description or "")
        if value_type is not None:
            kind = value_type if isinstance(value_type, str) else value_type.__name__
            parameter = Parameter(parameter.value, kind, parameter.description)
        self._edit(TaskEdit(parameters={section: {key: parameter}}))

    def delete_parameter(self, name: str) -> bool:
        """False when there was none."""
        section, key = split_name(name)
        if key not in self._recorder.document().parameters.get(section, {}):
            return False
        self._edit(TaskEdit(parameters={section: {key: None}}))
        return True

    def get_parameters(self, backwards_compatibility: bool = True, cast: bool = False) -> dict[str, Any]:
        """Flat `{'section/name': text}`; with `cast` in the types they had in the script."""
        flat = flatten(self._recorder.document().parameters)
        return {name: decode(parameter) if cast else parameter.value for name, parameter in flat.items()}

    def get_parameters_as_dict(self, cast: bool = False) -> dict[str, Any]:
        """Nested: `{'section': {'name': text}}`."""
        nested: dict[str, Any] = {}
        for flat, value in self.get_parameters(cast=cast).items():
            _nest(nested, flat.split("/"), value)
        return nested

    def get_parameter(self, name: str, default: Any = None, cast: bool = False) -> Any:
        """One parameter's text (or value with `cast`); `default` when there is none. Case-sensitive."""
        section, key = split_name(name)
        parameter = self._recorder.document().parameters.get(section, {}).get(key)
        if parameter is None:
            return default
        return decode(parameter) if cast else parameter.value

    def connect(self, mutable: Any, name: str | None = None, ignore_remote_overrides: bool = False) -> Any:
        """Record an object's values as parameters of section `name` and give the same object back.

        mutable: a dictionary (nested ones are flattened with `/`), an object or class (its public data), an
        argparse namespace or parser. Run by a worker, the object gets the values that were edited on the
        server. It is read again when the task is closed. BadInput for an edited value of a wrong type.
        """
        section = section_of(mutable, name)
        connected = Connected(mutable, section)
        fresh = connected.take(None if ignore_remote_overrides else self._edited_elsewhere())
        if fresh:
            self._edit(TaskEdit(parameters={section: dict(fresh)}))
        self._connected.append(connected)
        return mutable

    def _read_connected(self) -> None:
        """What connected objects have become."""
        for connected in self._connected:
            changed = connected.changed()
            if changed:
                self._edit(TaskEdit(parameters={connected.section: dict(changed)}))

    # --- configuration objects ----------------------------------------------------------------------------

    def connect_configuration(
        self,
        configuration: Any,
        name: str | None = None,
        description: str | None = None,
        ignore_remote_overrides: bool = False,
    ) -> Any:
        """Record a dictionary, a list or a file as one text; run by a worker, give back the server's content.

        For a path the return value is a path: of the file itself, or under a worker of one with the text
        that stands on the server.
        """
        key = name or DEFAULT_SECTION
        edited = None if ignore_remote_overrides else self._edited_elsewhere()
        found = edited.configuration.get(key) if edited is not None else None
        if found is not None:
            return configuration_back(configuration, found, key)
        made = configuration_text(configuration, key)
        self.set_configuration_object(key, config_text=made.value, config_type=made.type, description=description)
        return configuration

    def set_configuration_object(
        self,
        name: str,
        config_text: str | None = None,
        description: str | None = None,
        config_type: str | None = None,
        config_dict: Mapping[str, Any] | Sequence[Any] | None = None,
    ) -> None:
        if config_dict is not None:
            made = configuration_text(config_dict, name)
            config_text, config_type = made.value, config_type or made.type
        made = ConfigurationObject(config_text or "", config_type or "", description or "")
        self._edit(TaskEdit(configuration={name: made}))

    def get_configuration_object(self, name: str) -> str | None:
        """The text, or None."""
        found = self._recorder.document().configuration.get(name)
        return found.value if found is not None else None

    def get_configuration_objects(self) -> dict[str, str]:
        return {name: found.value for name, found in self._recorder.document().configuration.items()}

    def get_configuration_object_as_dict(self, name: str) -> Any:
        found = self._recorder.document().configuration.get(name)
        return parse_configuration(found, name) if found is not None else None

    # --- user properties ----------------------------------------------------------------------------------

    def set_user_properties(
        self, *iterables: Mapping[str, Any] | Iterable[Mapping[str, Any]], **properties: Any
    ) -> bool:
        """`{"name": ..., "value": ..., "description": ..., "type": ...}`, an iterable of those,
        `{name: value or such a dictionary}`, or name=value.
        """
        made: dict[str, Property | None] = {}
        for given in cast("tuple[Any, ...]", iterables):
            made_of: list[Any] = [given] if isinstance(given, Mapping) else list(given)
            for one in made_of:
                made |= _properties(one)
        made |= _properties(properties) if properties else {}
        self._edit(TaskEdit(properties=made))
        return True

    def get_user_properties(self, value_only: bool = False) -> dict[str, Any]:
        found = self._recorder.document().properties
        if value_only:
            return {name: one.value for name, one in found.items()}
        return {
            name: {"name": name, "value": one.value, "type": one.type, "description": one.description}
            for name, one in found.items()
        }

    def delete_user_properties(self, *iterables: Iterable[str | Mapping[str, str]]) -> bool:
        names: list[str] = []
        for given in cast("tuple[Any, ...]", iterables):
            named: list[Any] = [given] if isinstance(given, str | Mapping) else list(given)
            names += [one if isinstance(one, str) else str(one.get("name", "")) for one in named]
        self._edit(TaskEdit(properties=dict.fromkeys(names)))
        return True

    # --- how ----------------------------------------------------------------------------------------------

    def _edit(self, edit: TaskEdit) -> None:
        self._recorder.record(Edited(edit=edit, time=time.time()))

    def _edited_elsewhere(self) -> words.Task | None:
        """The document whose values win over the script's: only under a worker."""
        recorder = self._recorder
        return recorder.document() if isinstance(recorder, Session) and recorder.identity.hosted else None

    def _reading_client(self) -> Client:
        """For questions that only the server can answer; the live task's results are brought there first."""
        client = self._recorder.client()
        if isinstance(self._recorder, Session):
            self._recorder.wait_shipped(10.0)
        return client

    def _ask(self) -> words.Task:
        return self._reading_client().call(GET_TASK, task=self.id)


def destination_of_user(wanted: str | Path | bool | None) -> str:
    """What was given as `output_uri`, as a task keeps it. Raises BadInput."""
    if wanted is None:
        return ""
    from taskloom.domain.destination import SERVER, normal_destination

    text = str(wanted) if isinstance(wanted, Path) else wanted
    if isinstance(text, str) and text.startswith(("http://", "https://")):
        return SERVER  # ClearML's way to name the server's file store
    return normal_destination(text)


def _names(status: Iterable[Any]) -> set[str]:
    given = [status] if isinstance(status, str) else status
    return {str(getattr(one, "value", one)) for one in given}


def _merged(
    dictionaries: Iterable[Mapping[str, Any]], named: Mapping[str, Any]
) -> dict[str, dict[str, Parameter]]:
    whole: dict[str, Any] = {}
    for one in (*dictionaries, named):
        whole |= one
    return as_sections(whole)


def _optional(sections: dict[str, dict[str, Parameter]]) -> dict[str, dict[str, Parameter | None]]:
    return {section: dict(names) for section, names in sections.items()}


def _nest(nested: dict[str, Any], path: list[str], value: Any) -> None:
    for part in path[:-1]:
        inner = nested.setdefault(part, {})
        if not isinstance(inner, dict):  # a parameter that is both a value and a section of others
            nested["/".join(path)] = value
            return
        nested = cast("dict[str, Any]", inner)
    nested[path[-1]] = value


def _properties(given: Mapping[str, Any]) -> dict[str, Property | None]:
    if "name" in given and ("value" in given or set(given) <= {"name", "description", "type"}):
        return {str(given["name"]): _property(given)}
    return {str(name): _property(value) for name, value in given.items()}


def _property(value: Any) -> Property:
    if isinstance(value, Mapping):
        found = cast("Mapping[str, Any]", value)
        parameter = encode(found.get("value", ""))
        kind = str(found.get("type") or parameter.type)
        return Property(parameter.value, kind, str(found.get("description") or ""))
    parameter = encode(value)
    return Property(parameter.value, parameter.type)

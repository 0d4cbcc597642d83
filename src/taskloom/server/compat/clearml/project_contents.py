"""ClearML's calls about what projects hold: tags, hyperparameters, metrics, metadata, parents, types.

With the projects below unless `include_subprojects` says no; without a project, everything.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from taskloom.server.compat.clearml.call import (
    ClearMLCall,
    Data,
    Endpoints,
    Rooms,
    flag,
    needed,
    reads,
    text,
    texts,
)
from taskloom.server.compat.clearml.documents import PROPERTIES, hashed
from taskloom.server.compat.clearml.projecting import paging
from taskloom.server.patterns import finder
from taskloom.wire.messages import Condition, TaskQuery

ENDS = (":min", ":max")
ReadTags = Callable[[Sequence[str], bool], Awaitable[list[str]]]


def endpoints(rooms: Rooms) -> Endpoints:
    async def within(body: Data) -> list[str]:
        projects = texts(body, "projects") or texts(body, "project")
        return await rooms.projects.ids_below(projects) if flag(body, "include_subprojects", True) else projects

    def tags(read: ReadTags) -> Callable[[ClearMLCall], Awaitable[Data]]:
        async def told(call: ClearMLCall) -> Data:
            ids = await within(call.body)
            found: dict[str, Any] = {"tags": await read(ids, False)}
            if flag(call.body, "include_system"):
                found["system_tags"] = await read(ids, True)
            return found

        return told

    async def task_tags(ids: Sequence[str], system: bool) -> list[str]:
        return await rooms.projects.contents.task_tags(ids, system=system)

    async def model_tags(ids: Sequence[str], system: bool) -> list[str]:
        return await rooms.projects.contents.model_tags(ids, system=system)

    async def project_tags(ids: Sequence[str], system: bool) -> list[str]:
        projects = await rooms.projects.find_projects(lambda _: True, ids=ids)
        return sorted({tag for p in projects for tag in (p.system_tags if system else p.tags)})

    async def every_tag(ids: Sequence[str], system: bool) -> list[str]:
        """Of the whole organization, whatever bears it."""
        found = [await read([], system) for read in (task_tags, model_tags, project_tags)]
        return sorted({tag for tags in found for tag in tags})

    async def get_hyper_parameters(call: ClearMLCall) -> Data:
        ids = await within(call.body)
        names = [
            key.removeprefix("parameters.").partition("/")
            for key in await rooms.projects.contents.keys(ids, "parameters.")
        ]
        found = [{"section": section, "name": name} for section, _, name in names]
        for key in await rooms.projects.contents.keys(ids, "properties."):
            found.append({"section": PROPERTIES, "name": key.removeprefix("properties.")})
        return _paged("parameters", found, call.body)

    async def get_hyperparam_values(call: ClearMLCall) -> Data:
        section, name = needed(call.body, "section"), needed(call.body, "name")
        key = f"properties.{name}" if section == PROPERTIES else f"parameters.{section}/{name}"
        values = await rooms.projects.contents.values(await within(call.body), key)
        if call.body.get("pattern"):
            values = [*filter(finder(f"(?i){text(call.body, 'pattern')}"), values)]
        return _paged("values", values, call.body)

    async def get_metric_variants(call: ClearMLCall) -> Data:
        keys = set(await rooms.projects.contents.keys(await within(call.body), "metrics."))
        last = sorted(key for key in keys if all(f"{key}{end}" in keys for end in ENDS))
        pairs = [await _names(rooms, key.removeprefix("metrics.")) for key in last]
        return {
            "metrics": [
                {"metric": title, "metric_hash": hashed(title), "variant": series, "variant_hash": hashed(series)}
                for title, series in pairs
            ]
        }

    async def get_metadata_keys(call: ClearMLCall) -> Data:
        return _paged("keys", await rooms.projects.contents.metadata_keys(await within(call.body)), call.body)

    async def get_metadata_values(call: ClearMLCall) -> Data:
        found = await rooms.projects.contents.metadata_values(await within(call.body), needed(call.body, "key"))
        return _paged("values", found, call.body)

    async def get_task_parents(call: ClearMLCall) -> Data:
        archived = {"archived": True, "active": False}.get(text(call.body, "tasks_state"))
        found = await rooms.projects.contents.parents(await within(call.body), archived)
        return {"parents": [{"id": i, "name": n, "project": {"id": p, "name": path}} for i, n, p, path in found]}

    async def get_types(call: ClearMLCall) -> Data:
        return {"types": await rooms.projects.contents.task_types(await within(call.body))}

    return {
        "projects.get_task_tags": reads(tags(task_tags)),
        "projects.get_model_tags": reads(tags(model_tags)),
        "projects.get_project_tags": reads(tags(project_tags)),
        "organization.get_tags": reads(tags(every_tag)),
        "projects.get_hyper_parameters": reads(get_hyper_parameters),
        "projects.get_hyperparam_values": reads(get_hyperparam_values),
        "projects.get_unique_metric_variants": reads(get_metric_variants),
        "projects.get_model_metadata_keys": reads(get_metadata_keys),
        "projects.get_model_metadata_values": reads(get_metadata_values),
        "projects.get_task_parents": reads(get_task_parents),
        "tasks.get_types": reads(get_types),
    }


def _paged(name: str, found: Sequence[Any], body: Data) -> dict[str, Any]:
    page = paging(body)
    end = page.offset + page.limit
    return {"total": len(found), "remaining": max(0, len(found) - end), name: found[page.offset : end]}


async def _names(rooms: Rooms, name: str) -> tuple[str, str]:
    """Title and series of `TITLE/SERIES`; where slashes make that unclear, a task that reported it tells."""
    title, _, series = name.partition("/")
    if "/" not in series:
        return title, series
    key = Condition(key=f"metrics.{name}", is_="exists")
    holders = await rooms.tasks.query_tasks(
        TaskQuery(where=[key], hidden=True, fields=["metrics"], limit=1, count_to=0)
    )
    told = [(s.title, s.series) for task in holders.tasks for s in task.metrics if f"{s.title}/{s.series}" == name]
    return told[0] if told else (title, series)

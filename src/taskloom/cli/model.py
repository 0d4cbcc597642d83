"""`taskloom model`: weights with what made them.

A model is meant by its id, by the beginning of its id (at least four characters), or by its NAME or PROJECT/NAME
(the one that was made last).
"""

from __future__ import annotations

import re
from typing import Annotated

import typer

from taskloom.cli import connect
from taskloom.cli.lineage import DepthOption, DownFlag, LimitOption, UpFlag, lineage_query, tell_lineage
from taskloom.cli.output import (
    JsonFlag,
    YesFlag,
    ago,
    confirm,
    local_time,
    print_fields,
    print_json,
    print_table,
    say,
    short,
)
from taskloom.domain.artifact import Model
from taskloom.domain.errors import BadInput, NotFound
from taskloom.domain.quantities import size
from taskloom.wire import messages as m
from taskloom.wire import operations as op
from taskloom.wire.send import Client

ModelReference = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="Id, the beginning of an id (at least 4 characters), NAME or PROJECT/NAME.",
        show_default=False,
    ),
]
_ID = re.compile(r"[0-9a-f]{32}")
_PREFIX = re.compile(r"[0-9a-f]{4,31}")

app = typer.Typer(help="Models: weights with what made them.", no_args_is_help=True)


@app.command("list")
def list_models(
    project: Annotated[str, typer.Option("--project", "-p", help="Only of this project.")] = "",
    name: Annotated[str, typer.Option("--name", help="A part of the name.")] = "",
    task: Annotated[str, typer.Option("--task", help="Only those that this task made.")] = "",
    tag: Annotated[list[str] | None, typer.Option("--tag", "-t", help="A tag; a leading - excludes it.")] = None,
    framework: Annotated[str, typer.Option("--framework", help="Such as PyTorch.")] = "",
    published: Annotated[bool, typer.Option("--published", help="Only published ones.")] = False,
    archived: Annotated[bool, typer.Option("--archived", help="Archived ones, too.")] = False,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000, help="At most so many.")] = 50,
    offset: Annotated[int, typer.Option("--offset", min=0, help="Leave out the first so many.")] = 0,
    json: JsonFlag = False,
) -> None:
    """List models, the last made first."""
    with connect.server() as client:
        query = m.ModelQuery(
            project=project,
            name=name,
            task=connect.task_id(client, task) if task else "",
            tags=list(tag or ()),
            system_tags=[] if archived else ["-archived"],
            framework=framework,
            only_published=published,
            order_by=["-created"],
            limit=limit,
            offset=offset,
        )
        told = client.call(op.QUERY_MODELS, query)
    if json:
        print_json(told)
        return
    print_table(
        ["id", "model", "framework", "iteration", "size", "made", "status", "tags"],
        [
            (
                short(one.id),
                f"{one.project}/{one.name}",
                one.framework,
                "" if one.iteration is None else one.iteration,
                size(one.size) if one.size else "",
                ago(one.created),
                _status(one),
                ", ".join(one.tags),
            )
            for one in told.models
        ],
        empty="no models",
        right=["iteration", "size"],
    )


@app.command("show")
def show_model(model: ModelReference, json: JsonFlag = False) -> None:
    """Show one model: its weights, what made it, what is written about it."""
    with connect.server() as client:
        found = find_model(client, model)
    if json:
        print_json(found)
        return
    print_fields(
        [
            ("model", f"{found.project}/{found.name}"),
            ("id", found.id),
            ("status", _status(found)),
            ("framework", found.framework),
            ("iteration", "" if found.iteration is None else found.iteration),
            ("made by task", found.task),
            ("made from model", found.parent),
            ("weights", found.uri or ("on the server" if found.digest else "none")),
            ("file", found.filename),
            ("size", size(found.size) if found.size else ""),
            ("fingerprint", found.fingerprint or found.digest),
            ("made", local_time(found.created)),
            ("changed", local_time(found.last_update)),
            ("tags", ", ".join(found.tags)),
            ("labels", ", ".join(f"{name}={number}" for name, number in found.labels.items())),
            ("comment", found.comment),
        ]
    )
    print_fields(found.metadata.items(), title="Metadata")


@app.command("lineage")
def show_lineage(
    model: ModelReference,
    depth: DepthOption = 20,
    limit: LimitOption = 200,
    upstream: UpFlag = False,
    downstream: DownFlag = False,
    json: JsonFlag = False,
) -> None:
    """Show what a model came from and what came of it."""
    with connect.server() as client:
        query = lineage_query(depth, limit, upstream, downstream)
        found = client.call(op.MODEL_LINEAGE, query=query, model=model_id(client, model))
    tell_lineage(found, json)


@app.command("publish")
def publish_model(model: ModelReference, json: JsonFlag = False) -> None:
    """Make a model read-only for ever."""
    with connect.server() as client:
        found = client.call(op.PUBLISH_MODEL, model=model_id(client, model))
    if json:
        print_json(found)
        return
    say(f"{short(found.id)} {found.name}: published")


@app.command("delete")
def delete_model(
    model: ModelReference,
    force: Annotated[bool, typer.Option("--force", help="Also a published one, and one that tasks use.")] = False,
    yes: YesFlag = False,
    json: JsonFlag = False,
) -> None:
    """Delete a model, with its bytes on the server when nothing else names them."""
    with connect.server() as client:
        found = find_model(client, model)
        confirm(f"Delete the model {found.project}/{found.name}?", yes)
        done = client.call(op.DELETE_MODEL, query=m.ModelDelete(force=force), model=found.id)
    if json:
        print_json(done)
        return
    say(f"{short(found.id)} {found.name}: deleted")


def find_model(client: Client, reference: str) -> Model:
    """The whole model that is meant."""
    return client.call(op.GET_MODEL, model=model_id(client, reference))


def model_id(client: Client, reference: str) -> str:
    """The full id of the model that is meant; a full id is believed without asking."""
    reference = reference.strip()
    if _ID.fullmatch(reference):
        return reference
    if _PREFIX.fullmatch(reference):
        asked = m.ModelQuery(where=[m.Condition(key="id", is_="contains", value=reference)], limit=1000)
        found = [one for one in client.call(op.QUERY_MODELS, asked).models if one.id.startswith(reference)]
        if len(found) > 1:
            listed = "\n".join(f"  {one.id}  {one.project}/{one.name}" for one in found[:10])
            raise BadInput(f"{reference!r} is the beginning of {len(found)} model ids; which one?\n{listed}")
        if found:
            return found[0].id
    parts = reference.split("/")
    for cut in range(len(parts) - 1, -1, -1):
        project, name = "/".join(parts[:cut]), "/".join(parts[cut:])
        if name and (project or not cut):
            asked = m.ModelQuery(
                project=project,
                where=[m.Condition(key="name", is_="=", value=name)],
                order_by=["-created"],
                limit=1,
            )
            found = client.call(op.QUERY_MODELS, asked).models
            if found:
                return found[0].id
    raise NotFound(f"no model {reference[:200]!r}: give an id, the beginning of one, NAME or PROJECT/NAME")


def _status(model: Model) -> str:
    archived = "archived" if "archived" in model.system_tags else ""
    return "published" if model.published else archived

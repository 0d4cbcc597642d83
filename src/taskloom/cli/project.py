"""`taskloom project`: shelves of tasks, nested by slashes."""

from __future__ import annotations

from typing import Annotated

import typer

from taskloom.cli import connect, elsewhere
from taskloom.cli.connect import ProjectReference
from taskloom.cli.output import JsonFlag, YesFlag, confirm, local_time, print_fields, print_json, print_table, say
from taskloom.domain.project import Project
from taskloom.wire import messages as m
from taskloom.wire import operations as op

TagOption = Annotated[list[str] | None, typer.Option("--tag", "-t", help="A tag; give it again for more.")]

app = typer.Typer(help="Projects: shelves of tasks.", no_args_is_help=True)


@app.command("list")
def list_projects(
    under: Annotated[str, typer.Option("--under", help="Only those below this path.")] = "",
    search: Annotated[str, typer.Option("--search", help="A part of the path.")] = "",
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000, help="At most so many.")] = 500,
    offset: Annotated[int, typer.Option("--offset", min=0, help="Leave out the first so many.")] = 0,
    json: JsonFlag = False,
) -> None:
    """List projects by path."""
    with connect.server() as client:
        query = m.ProjectQuery(under=under, search=search, limit=limit, offset=offset)
        told = client.call(op.LIST_PROJECTS, query=query)
    if json:
        print_json(told)
        return
    print_table(
        ["project", "tasks", "running", "id", "description", "tags"],
        [
            (p.name, _count(p), p.task_counts.get("running", 0), p.id, p.description, ", ".join(p.tags))
            for p in told.projects
        ],
        empty="no projects",
        right=["tasks", "running"],
    )


@app.command("show")
def show_project(project: ProjectReference, json: JsonFlag = False) -> None:
    """Show one project."""
    with connect.server() as client:
        found = connect.find_project(client, project)
    if json:
        print_json(found)
        return
    print_fields(_fields(found))


@app.command("create")
def create_project(
    name: Annotated[str, typer.Argument(help="Path, such as main/sub.", show_default=False)],
    description: Annotated[str, typer.Option("--description", help="What it is about.")] = "",
    tag: TagOption = None,
    json: JsonFlag = False,
) -> None:
    """Make a project and those above it."""
    with connect.server() as client:
        body = m.ProjectCreate(name=name, description=description, tags=tuple(tag or ()))
        _told(client.call(op.CREATE_PROJECT, body), "made", json)


@app.command("edit")
def edit_project(
    project: ProjectReference,
    name: Annotated[
        str | None, typer.Option("--name", help="New path; those below move along.", show_default=False)
    ] = None,
    description: Annotated[
        str | None, typer.Option("--description", help="What it is about.", show_default=False)
    ] = None,
    tag: TagOption = None,
    no_tags: Annotated[bool, typer.Option("--no-tags", help="Remove all tags.")] = False,
    output_uri: Annotated[
        str | None, typer.Option("--output-uri", help="Where its tasks keep bytes.", show_default=False)
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Rename, describe or tag a project; --tag replaces the tags."""
    tags = () if no_tags else tuple(tag) if tag else None
    edit = m.ProjectEdit(name=name, description=description, tags=tags, output_uri=output_uri)
    if edit == m.ProjectEdit():
        raise typer.BadParameter("nothing to change: give an option (see --help)")
    with connect.server() as client:
        found = connect.find_project(client, project)
        _told(client.call(op.EDIT_PROJECT, edit, project=found.id), "changed", json)


@app.command("delete")
def delete_project(
    project: ProjectReference,
    force: Annotated[bool, typer.Option("--force", help="Its tasks and their results too.")] = False,
    yes: YesFlag = False,
    json: JsonFlag = False,
) -> None:
    """Delete an empty project, or with --force one with all its tasks."""
    with connect.server() as client:
        found = connect.find_project(client, project)
        confirm(f"Delete the project {found.name}{' with all its tasks' if force else ''}?", yes)
        done = client.call(op.DELETE_PROJECT, query=m.ProjectDelete(force=force), project=found.id)
    removal = elsewhere.remove_elsewhere(done.external)
    if json:
        print_json(removal)
        return
    say(f"project {found.name}: deleted")
    elsewhere.tell_left(removal)


def _fields(project: Project) -> list[tuple[str, object]]:
    return [
        ("project", project.name),
        ("id", project.id),
        ("description", project.description),
        ("tags", ", ".join(project.tags)),
        ("tasks", ", ".join(f"{count} {status}" for status, count in project.task_counts.items() if count)),
        ("output uri", project.output_uri),
        ("created", local_time(project.created)),
    ]


def _count(project: Project) -> int:
    return sum(project.task_counts.values())


def _told(project: Project, what: str, json: bool) -> None:
    if json:
        print_json(project)
        return
    say(f"project {project.name}: {what}")

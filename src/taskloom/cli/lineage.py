"""Lineage as trees: what something came from above, what came of it below; also `taskloom task lineage`.

A thing that was drawn already is named again, but what lies behind it is not: lineage is no tree, circles included.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Annotated, Literal

import typer

from taskloom.cli import connect
from taskloom.cli.connect import TaskReference
from taskloom.cli.output import STATUS_COLOURS, JsonFlag, hint, print_json, screen, short
from taskloom.cli.terminal import plain
from taskloom.wire import operations as op
from taskloom.wire.messages import Lineage, LineageEdge, LineageNode, LineageQuery

DepthOption = Annotated[int, typer.Option("--depth", min=1, max=100, help="At most so many steps each way.")]
LimitOption = Annotated[
    int, typer.Option("--limit", "-n", min=1, max=1000, help="At most so many tasks and models.")
]
UpFlag = Annotated[bool, typer.Option("--upstream", help="Only what it came from.")]
DownFlag = Annotated[bool, typer.Option("--downstream", help="Only what came of it.")]

# How an edge reads from the end that is drawn nearer to the root: upstream, downstream.
_WORDS: dict[str, tuple[str, str]] = {
    "made": ("made by", "made"),
    "loaded": ("loaded", "loaded by"),
    "read": ("read", "read by"),
    "parent": ("parent", "parent of"),
    "evaluated": ("evaluated what was trained by", "evaluated by"),
}


def show_lineage(
    task: TaskReference,
    depth: DepthOption = 20,
    limit: LimitOption = 200,
    upstream: UpFlag = False,
    downstream: DownFlag = False,
    json: JsonFlag = False,
) -> None:
    """Show what a task came from and what came of it: artifacts it read, models, other tasks."""
    with connect.server() as client:
        query = lineage_query(depth, limit, upstream, downstream)
        found = client.call(op.TASK_LINEAGE, query=query, task=connect.task_id(client, task))
    tell_lineage(found, json)


def lineage_query(depth: int, limit: int, upstream: bool, downstream: bool) -> LineageQuery:
    direction: Literal["both", "upstream", "downstream"] = (
        "both" if upstream == downstream else "upstream" if upstream else "downstream"
    )
    return LineageQuery(direction=direction, depth=depth, limit=limit)


def tell_lineage(found: Lineage, json: bool) -> None:
    if json:
        print_json(found)
        return
    nodes = {node.id: node for node in found.nodes}
    console = screen()
    console.print(_named(nodes[found.root]), style="bold")
    for way, title in enumerate(("came from", "what came of it")):
        lines = _Tree(found, nodes, upstream=way == 0).lines()
        if lines:
            console.print(f"\n{title}", style="dim")
        for line, style in lines:
            console.print(line, style=style or None)
    if not found.edges:
        console.print("nothing is known of what it came from or what came of it", style="dim")
    if not found.complete:
        hint("there is more: --depth and --limit show it")


class _Tree:
    def __init__(self, found: Lineage, nodes: dict[str, LineageNode], *, upstream: bool) -> None:
        self._nodes, self._root, self._way = nodes, found.root, 0 if upstream else 1
        self._drawn = {found.root}
        self._next: defaultdict[str, list[tuple[LineageEdge, str]]] = defaultdict(list)
        for edge in found.edges:
            near, far = (edge.target, edge.source) if upstream else (edge.source, edge.target)
            self._next[near].append((edge, far))

    def lines(self) -> list[tuple[str, str]]:
        """Each with its style."""
        return self._below(self._root, "")

    def _below(self, near: str, margin: str) -> list[tuple[str, str]]:
        found: list[tuple[str, str]] = []
        steps = self._next[near]
        for number, (edge, far) in enumerate(steps):
            last = number == len(steps) - 1
            node = self._nodes[far]
            again = far in self._drawn
            more = " ..." if again and self._next[far] else ""
            word = f"{_WORDS[edge.relation][self._way]} {plain(edge.name)}".rstrip()
            found.append((f"{margin}{'└─' if last else '├─'} {word}: {_named(node)}{more}", _style(node)))
            if not again:
                self._drawn.add(far)
                found += self._below(far, margin + ("   " if last else "│  "))
        return found


def _named(node: LineageNode) -> str:
    if node.gone:
        return f"{node.kind} {short(node.id)} (deleted)"
    what = ", ".join(part for part in (node.type, node.status) if part)
    return f"{node.kind} {short(node.id)} {plain(f'{node.project}/{node.name}')}" + (f" ({what})" if what else "")


def _style(node: LineageNode) -> str:
    return (
        "dim" if node.gone else STATUS_COLOURS.get(node.status, "") if node.status in {"failed", "aborted"} else ""
    )

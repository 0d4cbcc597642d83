"""Lineage: from a task or a model to everything that it came from, and to everything that came of it.

The walk goes step by step: all that is one step further is found with a few questions. It keeps its direction, or
it would find the whole house; what it has seen it does not enter again, so circles end. Both ways are bounded
together, in steps and in nodes, and the answer says when a bound cut it.
"""

from __future__ import annotations

from typing import Literal

import msgspec
from sqlalchemy import Connection

from taskloom.domain.errors import BadInput, NotFound
from taskloom.server.db import Database
from taskloom.server.lineage import store
from taskloom.wire.messages import Lineage, LineageEdge, LineageNode, LineageQuery

MAX_DEPTH = 100
MAX_NODES = 1000

Kind = Literal["task", "model"]
_Key = tuple[str, str, str, str]


class LineageService:
    def __init__(self, db: Database) -> None:
        self._db = db

    async def lineage(self, kind: Kind, identifier: str, query: LineageQuery) -> Lineage:
        """NotFound when there is no such task or model, BadInput for bounds that are none."""
        if not 1 <= query.depth <= MAX_DEPTH or not 1 <= query.limit <= MAX_NODES:
            raise BadInput(f"expected a depth of 1 to {MAX_DEPTH} and a limit of 1 to {MAX_NODES}")
        return await self._db.read(lambda tx: _walk(tx, kind, identifier, query))


def _walk(tx: Connection, kind: Kind, identifier: str, query: LineageQuery) -> Lineage:
    root = (store.task_nodes if kind == store.TASK else store.model_nodes)(tx, [identifier])
    if not root:
        raise NotFound(f"no {kind} {identifier[:80]!r}")
    walk = _Walk(tx, query, kind, identifier)
    for sign in (-1, 1):
        if query.direction in {"both", "upstream" if sign < 0 else "downstream"}:
            walk.go(sign)
    return walk.told()


class _Walk:
    """`found`: kind and steps of every node, in the order in which they were found."""

    def __init__(self, tx: Connection, query: LineageQuery, kind: Kind, root: str) -> None:
        self._tx, self._query, self._root = tx, query, root
        self.found: dict[str, tuple[Kind, int]] = {root: (kind, 0)}
        self._edges: dict[_Key, LineageEdge] = {}
        self._complete = True

    def go(self, sign: int) -> None:
        """Upstream (-1) or downstream (1) from the root, until nothing is new or a bound is met."""
        frontier = [self._root]
        entered = {self._root}
        for step in range(1, self._query.depth + 1):
            fresh: list[str] = []
            for edge in self._steps(frontier, sign):
                near, far = (edge.target, edge.source) if sign < 0 else (edge.source, edge.target)
                kind = _kind_of_far(edge, self._kind(near))
                if far not in self.found:
                    if len(self.found) >= self._query.limit:
                        self._complete = False
                        continue
                    self.found[far] = kind, sign * step
                self._edges.setdefault((edge.relation, edge.source, edge.target, edge.name), edge)
                if far not in entered:
                    entered.add(far)
                    fresh.append(far)
            if not fresh:
                return
            frontier = fresh
        if self._steps(frontier, sign):
            self._complete = False

    def _steps(self, frontier: list[str], sign: int) -> list[LineageEdge]:
        room = self._query.limit + 1
        tasks = [one for one in frontier if self._kind(one) == store.TASK]
        models = [one for one in frontier if self._kind(one) == store.MODEL]
        if sign < 0:
            found = store.into_tasks(self._tx, tasks, room) + store.into_models(self._tx, models, room)
        else:
            found = store.out_of_tasks(self._tx, tasks, room) + store.out_of_models(self._tx, models, room)
        named = {(edge.source, edge.target) for edge in found if edge.relation == "made" and edge.name}
        return [  # a model tells its maker, and its maker tells it by a name: once is enough
            e for e in found if e.relation != "made" or e.name or (e.source, e.target) not in named
        ]

    def _kind(self, identifier: str) -> Kind:
        return self.found[identifier][0]

    def told(self) -> Lineage:
        ids: dict[Kind, list[str]] = {"task": [], "model": []}
        for one, (kind, _) in self.found.items():
            ids[kind].append(one)
        there = {n.id: n for n in store.task_nodes(self._tx, ids["task"])}
        there |= {n.id: n for n in store.model_nodes(self._tx, ids["model"])}
        nodes = [
            msgspec.structs.replace(there[one], steps=steps)
            if one in there
            else LineageNode(kind=kind, id=one, steps=steps, gone=True)
            for one, (kind, steps) in self.found.items()
        ]
        nodes.sort(key=lambda node: abs(node.steps))
        return Lineage(root=self._root, nodes=nodes, edges=list(self._edges.values()), complete=self._complete)


def _kind_of_far(edge: LineageEdge, near: Kind) -> Kind:
    """Parents are of the kind of their children, readers, read and evaluated are tasks, else task and model meet."""
    if edge.relation in {"parent", "read", "evaluated"}:
        return near
    return "task" if near == "model" else "model"

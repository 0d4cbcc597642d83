"""What came from what."""

from __future__ import annotations

from typing import Literal

from taskloom.wire.messages.base import Answer, Request


class LineageQuery(Request, frozen=True, kw_only=True):
    """Query string. How many steps to go at most (1 to 100), and how many nodes to find (1 to 1000)."""

    direction: Literal["both", "upstream", "downstream"] = "both"
    depth: int = 20
    limit: int = 200


class LineageNode(Answer, frozen=True, kw_only=True):
    """A task or a model. `gone`: it was deleted; only its id is known.

    steps: how far it is from the one that was asked about: below 0 upstream, above 0 downstream.
    status of a task its state, of a model `published` or empty. type: of a task its type, of a model its framework.
    """

    kind: Literal["task", "model"]
    id: str
    name: str = ""
    project: str = ""
    status: str = ""
    type: str = ""
    created: float = 0.0
    steps: int = 0
    gone: bool = False


class LineageEdge(Answer, frozen=True, kw_only=True):
    """What went from `source` to `target`, which are ids of nodes.

    made     a task made a model; `name`: under which it refers to it
    loaded   a model went into a task; `name` likewise
    read     the artifact `name` of a task was read by a task; `digest`: its bytes then, where that is known
    parent   a task was cloned from, or begun under, a task; a model was made from a model
    evaluated  what a task trained was evaluated by a job
    """

    relation: Literal["made", "loaded", "read", "parent", "evaluated"]
    source: str
    target: str
    name: str = ""
    digest: str = ""


class Lineage(Answer, frozen=True, kw_only=True):
    """What something came from and what came of it: upstream only ways that lead to it, downstream those from it.

    nodes: the one that was asked about first, then by their steps. complete: False when a bound cut it.
    """

    root: str
    nodes: list[LineageNode]
    edges: list[LineageEdge]
    complete: bool = True

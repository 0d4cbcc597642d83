"""`taskloom task ...` against a real server."""

import json
from pathlib import Path
from typing import Any

import pytest

from taskloom.cli.search import parse_condition
from taskloom.domain.artifact import Sample
from taskloom.domain.parameters import Parameter, encode
from taskloom.wire import messages as m
from taskloom.wire.records import Sampled

# --- list -------------------------------------------------------------------------------------------------


def names(ran: Any) -> list[str]:
    assert ran.code == 0, ran.err
    return [task["name"] for task in ran.json["tasks"]]


def test_list_shows_a_table_and_json(taskloom: Any, finished: Any) -> None:
    script = finished("first run")
    ran = taskloom("task", "list")
    assert ran.code == 0
    assert script.task[:8] in ran.out
    assert "completed" in ran.out
    told = taskloom("task", "list", "--json").json
    assert told["total"] == 1
    assert told["tasks"][0]["id"] == script.task
    assert told["tasks"][0]["metrics"][0]["title"] == "loss"


def test_list_filters(taskloom: Any, finished: Any, begin: Any) -> None:
    finished("first run", last=0.25, lr=0.1).edits(add_tags=("best",))
    finished("second run", last=0.05, lr=0.2)
    begin("third run", project="shelf/below", lr=0.3)

    def listed(*options: str) -> set[str]:
        return set(names(taskloom("task", "list", "--json", *options)))

    assert listed() == {"first run", "second run", "third run"}
    assert listed("--project", "shelf") == {"first run", "second run", "third run"}
    assert listed("--project", "shelf/below") == {"third run"}
    assert listed("--status", "completed") == {"first run", "second run"}
    assert listed("--status", "completed", "--status", "running") == {"first run", "second run", "third run"}
    assert listed("--tag", "best") == {"first run"}
    assert listed("--tag", "-best") == {"second run", "third run"}
    assert listed("--search", "SECOND") == {"second run"}
    assert listed("--name", "third") == {"third run"}
    assert listed("--type", "testing") == set()
    assert listed("--where", "metrics.loss/train < 0.1") == {"second run"}
    assert listed("--where", "parameters.Args/lr >= 0.2") == {"second run", "third run"}
    assert listed("--where", "metrics.loss/train:min exists") == {"first run", "second run"}
    assert listed("--limit", "1", "--sort", "name") == {"first run"}


def test_list_sorts_by_a_metric_and_shows_it(taskloom: Any, finished: Any) -> None:
    finished("worse", last=0.5, lr=0.1)
    finished("better", last=0.125, lr=0.2)
    order = ("--sort", "metrics.loss/train", "--column", "metrics.loss/train", "-c", "parameters.Args/lr")
    assert names(taskloom("task", "list", "--json", *order)) == ["better", "worse"]
    out = taskloom("task", "list", *order).out
    assert out.index("0.125") < out.index("0.5")
    assert "0.2" in out


def test_archived_tasks_are_listed_apart(taskloom: Any, finished: Any) -> None:
    script = finished("old run")
    assert taskloom("task", "archive", script.task).code == 0
    assert names(taskloom("task", "list", "--json")) == []
    assert names(taskloom("task", "list", "--archived", "--json")) == ["old run"]
    assert taskloom("task", "archive", script.task, "--undo").code == 0
    assert names(taskloom("task", "list", "--json")) == ["old run"]


def test_names_cannot_paint_on_the_terminal(taskloom: Any, begin: Any) -> None:
    begin("[red]not red[/red]").edits(comment="x", add_tags=("\u202etag",))
    out = taskloom("task", "list").out
    assert "[red]not red[/red]" in out
    assert "\u202e" not in out


@pytest.mark.parametrize(
    ("text", "condition"),
    [
        ("metrics.loss/train < 0.1", m.Condition(key="metrics.loss/train", is_="<", value=0.1)),
        ("metrics.a b/c d:min>=1e-3", m.Condition(key="metrics.a b/c d:min", is_=">=", value=1e-3)),
        ("parameters.Args/model = 'big 2'", m.Condition(key="parameters.Args/model", is_="=", value="big 2")),
        ('parameters.Args/lr == "0.1"', m.Condition(key="parameters.Args/lr", is_="=", value="0.1")),
        (
            "parameters.Args/model contains res",
            m.Condition(key="parameters.Args/model", is_="contains", value="res"),
        ),
        ("metrics.loss/train exists", m.Condition(key="metrics.loss/train", is_="exists")),
    ],
)
def test_conditions_are_read_as_they_are_typed(text: str, condition: m.Condition) -> None:
    assert parse_condition(text) == condition


@pytest.mark.parametrize("text", ["loss < 1", "metrics.loss/train", "metrics.loss/train <", "parameters.lr = 1"])
def test_a_condition_that_cannot_be_read_is_wrong_usage(taskloom: Any, text: str) -> None:
    ran = taskloom("task", "list", "--where", text)
    assert ran.code == 2


# --- show -------------------------------------------------------------------------------------------------


def test_show_tells_everything(taskloom: Any, finished: Any, artifact: Any) -> None:
    script = finished("first run", last=0.25, lr=0.1)
    script.edits(
        execution={
            "repository": "https://host/repo.git",
            "commit": "c0ffee",
            "entry_point": "train.py",
            "diff": "+x",
        },
        add_tags=("best",),
        comment="a comment",
    )
    artifact(script, "table", b"1,2\n")
    out = taskloom("task", "show", script.task).out
    for part in (
        "shelf/first run",
        "completed",
        "best",
        "a comment",
        "c0ffee",
        "train.py",
        "+x",
        "Args/lr",
        "0.1",
    ):
        assert part in out
    for part in ("loss/train", "0.25", "table", "4 B"):
        assert part in out


def test_show_says_why_a_pending_task_waits(taskloom: Any, draft: Any) -> None:
    task = draft()
    assert taskloom("task", "enqueue", task.id, "--create-queue").code == 0
    out = taskloom("task", "show", task.id).out
    assert "waits" in out
    assert "worker" in out


def test_show_tells_an_unknown_task(taskloom: Any) -> None:
    ran = taskloom("task", "show", "0" * 32)
    assert ran.code == 1
    assert ran.err.startswith("taskloom: ")
    assert "0" * 32 in ran.err
    assert json.loads(taskloom("task", "show", "0" * 32, "--json").err)["error"]["code"] == "not_found"


# --- changes ----------------------------------------------------------------------------------------------


def test_show_tells_given_parameters_from_defaults(taskloom: Any, draft: Any) -> None:
    task = draft(parameters={"Args": {"lr": Parameter("0.1", "float", given=True), "epochs": encode(3)}})
    lines = taskloom("task", "show", task.id).out.splitlines()
    rows = {line.split()[0]: line.split() for line in lines if line.strip().startswith("Args/")}
    assert rows == {
        "Args/lr": ["Args/lr", "0.1", "float", "yes"],
        "Args/epochs": ["Args/epochs", "3", "int"],
    }


def test_set_changes_parameters_in_the_type_they_have(taskloom: Any, draft: Any) -> None:
    task = draft(parameters={"Args": {"lr": encode(0.1), "epochs": encode(3)}})
    ran = taskloom("task", "set", task.id, "Args/lr=0.5", "Args/epochs=10", "lonely=text=with=equals", "--json")
    assert ran.code == 0, ran.err
    told = ran.json["parameters"]
    assert told["Args"]["lr"]["value"] == "0.5"
    assert told["Args"]["lr"]["type"] == "float"
    assert told["Args"]["epochs"] == {"value": "10", "type": "int", "description": "", "given": True}
    assert told["General"]["lonely"]["value"] == "text=with=equals"


def test_set_refuses_a_text_that_is_no_number(taskloom: Any, draft: Any) -> None:
    task = draft(parameters={"Args": {"lr": encode(0.1)}})
    ran = taskloom("task", "set", task.id, "Args/lr=fast")
    assert ran.code == 1
    assert "Args/lr" in ran.err
    assert "fast" in ran.err


def test_set_changes_everything_else(taskloom: Any, draft: Any, tmp_path: Path) -> None:
    task = draft(tags=("old",), parameters={"Args": {"lr": encode(0.1)}})
    requirements = tmp_path / "req.txt"
    requirements.write_text("numpy==2.1\n")
    ran = taskloom(
        *("task", "set", task.id, "--name", "new name", "--comment", "why", "--tag", "new", "--rm-tag", "old"),
        *("--property", "score=7", "--execution", "branch=main", "-e", f"packages=@{requirements}"),
        *("-e", "command=python 'my script.py'", "-e", 'variables={"A": "1"}', "--unset", "Args/lr", "--json"),
    )
    assert ran.code == 0, ran.err
    told = ran.json
    assert (told["name"], told["comment"], told["tags"]) == ("new name", "why", ["new"])
    assert told["properties"]["score"]["value"] == "7"
    assert told["execution"]["branch"] == "main"
    assert told["execution"]["packages"] == "numpy==2.1\n"
    assert told["execution"]["command"] == ["python", "my script.py"]
    assert told["execution"]["variables"] == {"A": "1"}
    assert told["parameters"] == {}


@pytest.mark.parametrize(
    "words", [["lr"], ["=1"], [], ["-e", "nonsense=1"], ["-e", "variables=[1]"], ["--property", "x"]]
)
def test_set_without_sense_is_wrong_usage(taskloom: Any, draft: Any, words: list[str]) -> None:
    assert taskloom("task", "set", draft().id, *words).code == 2


def test_a_task_that_ran_keeps_its_parameters(taskloom: Any, finished: Any) -> None:
    script = finished("first run", lr=0.1)
    ran = taskloom("task", "set", script.task, "Args/lr=0.5")
    assert ran.code == 1
    assert "completed" in ran.err
    assert taskloom("task", "set", script.task, "--comment", "still allowed").code == 0


def test_create_makes_a_draft(taskloom: Any) -> None:
    ran = taskloom(
        "task", "create", "-p", "shelf", "--name", "by hand", "Args/lr=1", "-e", "command=true", "--json"
    )
    assert ran.code == 0, ran.err
    assert ran.json["status"] == "draft"
    assert ran.json["parameters"]["Args"]["lr"]["value"] == "1"
    assert ran.json["execution"]["command"] == ["true"]


# --- moves ------------------------------------------------------------------------------------------------


def test_a_task_goes_round_its_states(taskloom: Any, finished: Any) -> None:
    script = finished("first run", lr=0.1)
    clone = taskloom("task", "clone", script.task, "--json").json
    assert (clone["name"], clone["status"], clone["metrics"]) == ("Clone Of first run", "draft", [])
    assert clone["parameters"]["Args"]["lr"]["value"] == "0.1"
    queued = taskloom("task", "enqueue", clone["id"], "--queue", "night", "--create-queue", "--json").json
    assert (queued["status"], queued["queue_name"]) == ("pending", "night")
    assert taskloom("task", "dequeue", clone["id"], "--json").json["status"] == "draft"
    assert taskloom("task", "enqueue", clone["id"], "--queue", "night").code == 0
    assert taskloom("task", "abort", clone["id"], "--json").json["status"] == "aborted"
    assert taskloom("task", "reset", clone["id"], "--yes", "--json").json["status"] == "draft"
    assert taskloom("task", "publish", script.task, "--json").json["status"] == "published"
    assert taskloom("task", "delete", clone["id"], "--yes").code == 0
    assert taskloom("task", "show", clone["id"]).code == 1


def test_an_illegal_move_names_the_state_it_found(taskloom: Any, draft: Any) -> None:
    ran = taskloom("task", "publish", draft().id, "--json")
    assert ran.code == 1
    fault = json.loads(ran.err)["error"]
    assert fault["code"] == "illegal_move"
    assert fault["details"]["status"] == "draft"


def test_an_unknown_queue_is_named(taskloom: Any, draft: Any) -> None:
    ran = taskloom("task", "enqueue", draft().id, "--queue", "nowhere")
    assert ran.code == 1
    assert "nowhere" in ran.err


def test_nothing_is_deleted_where_nobody_can_be_asked(taskloom: Any, draft: Any) -> None:
    task = draft()
    assert taskloom("task", "delete", task.id).code == 2
    assert taskloom("task", "show", task.id).code == 0


# --- artifacts --------------------------------------------------------------------------------------------


def test_artifacts_are_listed_and_fetched(taskloom: Any, finished: Any, artifact: Any, tmp_path: Path) -> None:
    script = finished()
    data = bytes(range(256)) * 5000
    made = artifact(script, "weights", data, filename="weights.bin")
    listed = taskloom("task", "artifacts", "list", script.task, "--json").json["artifacts"]
    assert [(item["name"], item["size"]) for item in listed] == [("weights", len(data))]
    assert "weights.bin" in taskloom("task", "artifacts", "list", script.task).out
    got = taskloom("task", "artifacts", "get", script.task, "weights", "-o", str(tmp_path), "--json").json
    assert Path(got["path"]) == tmp_path / "weights.bin"
    assert Path(got["path"]).read_bytes() == data
    assert got["digest"] == made.digest
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["weights.bin"]


def test_samples_are_listed_and_fetched(taskloom: Any, finished: Any, artifact: Any, tmp_path: Path) -> None:
    script = finished()
    digest = artifact(script, "page", b"<script>never run</script>").digest
    facts = {"title": "shown", "time": 1.0, "media_type": "text/html", "digest": digest}
    for iteration, name in ((1, "page_1.html"), (2, "../../page_2.html")):
        script.tell(Sampled(sample=Sample(series="page", iteration=iteration, name=name, **facts)))
    script.tell(Sampled(sample=Sample(title="far", series="film", iteration=0, time=1.0, uri="s3://b/film.mp4")))
    told = taskloom("task", "samples", "list", script.task, "--json").json
    assert [(s["title"], s["iteration"], s.get("size", 0)) for s in told["samples"]] == [
        ("far", 0, 0),
        ("shown", 2, 26),
    ]
    every = taskloom("task", "samples", "list", script.task, "--title", "shown", "--all")
    assert [line.split()[:3] for line in every.out.splitlines() if "page" in line] == [
        ["shown", "page", "2"],
        ["shown", "page", "1"],
    ]
    got = taskloom("task", "samples", "get", script.task, "shown", "page", "-o", str(tmp_path), "--json").json
    assert Path(got["path"]).resolve() == tmp_path / "page_2.html"
    assert Path(got["path"]).read_bytes() == b"<script>never run</script>"
    earlier = taskloom(
        "task", "samples", "get", script.task, "shown", "page", "--iteration", "1", "-o", str(tmp_path)
    )
    assert (earlier.code, (tmp_path / "page_1.html").is_file()) == (0, True)
    elsewhere = taskloom("task", "samples", "get", script.task, "far", "film")
    assert (elsewhere.code, "s3://b/film.mp4" in elsewhere.err) == (1, True)
    missing = taskloom("task", "samples", "get", script.task, "shown", "page", "--iteration", "9")
    assert (missing.code, "no sample 'shown' / 'page' at 9" in missing.err) == (1, True)


def test_a_file_that_is_there_is_kept(taskloom: Any, finished: Any, artifact: Any, tmp_path: Path) -> None:
    script = finished()
    artifact(script, "table", b"new")
    target = tmp_path / "mine"
    target.write_text("old")
    ran = taskloom("task", "artifacts", "get", script.task, "table", "-o", str(target))
    assert ran.code == 1
    assert target.read_text() == "old"
    assert taskloom("task", "artifacts", "get", script.task, "table", "-o", str(target), "--force").code == 0
    assert target.read_text() == "new"


@pytest.mark.parametrize("filename", ["../../evil", "/etc/evil", "..", "a\\..\\evil", "..\\evil"])
def test_a_file_name_never_leads_out_of_the_folder(
    taskloom: Any, finished: Any, artifact: Any, tmp_path: Path, filename: str
) -> None:
    script = finished()
    artifact(script, "table", b"data", filename=filename)
    folder = tmp_path / "deep" / "er"
    folder.mkdir(parents=True)
    got = taskloom("task", "artifacts", "get", script.task, "table", "-o", str(folder), "--json").json
    assert Path(got["path"]).resolve().parent == folder
    assert Path(got["path"]).read_bytes() == b"data"


def test_an_unknown_artifact_is_told_with_those_there_are(taskloom: Any, finished: Any, artifact: Any) -> None:
    script = finished()
    artifact(script, "table", b"data")
    ran = taskloom("task", "artifacts", "get", script.task, "tabel")
    assert ran.code == 1
    assert "table" in ran.err


# --- scalars ----------------------------------------------------------------------------------------------


def test_scalars_and_their_curve(taskloom: Any, finished: Any) -> None:
    script = finished(last=0.25)
    told = taskloom("task", "scalars", script.task, "--json").json["series"]
    assert [(s["title"], s["series"], s["count"], s["last"]) for s in told] == [("loss", "train", 3, 0.25)]
    assert "loss/train" in taskloom("task", "scalars", script.task).out
    points = taskloom("task", "plot", script.task, "loss/train", "--json").json
    assert points["value"] == [1.0, 0.5, 0.25]
    drawn = taskloom("task", "plot", script.task, "loss/train", "--height", "5").out
    assert "loss/train" in drawn
    assert any(0x2800 < ord(character) < 0x2900 for character in drawn)
    assert "loss/train" in taskloom("task", "plot", script.task, "los/train").err


def test_a_curve_without_finite_values_says_so() -> None:
    from taskloom.cli.curves import draw

    assert draw([0, 1], [float("nan"), float("inf")], 20, 3) == ["no finite values to draw"]
    assert len(draw([0, 1, 2], [1e308, -1e308, 0], 20, 3)) == 5
    assert draw([3], [1.5], 20, 3)

"""Runs from task files: a fresh home, an environment of their own, values where they belong and nowhere else."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.conftest import House
from tests.unit.worker.workshop import Done, Workshop, lease_of

from taskloom.domain.execution import Execution
from taskloom.domain.parameters import Parameter
from taskloom.wire.archives import folder_members, pack
from taskloom.wire.client import Address
from taskloom.worker.files import merge
from taskloom.worker.home import repository_name
from taskloom.worker.workspace import Prepared

Git = Callable[..., str]
OFFLINE = {"UV_OFFLINE": "1", "UV_NO_INDEX": "1", "PIP_NO_INDEX": "1"}


@pytest.fixture
def shop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path, **OFFLINE)


def ended_well(done: Done) -> Done:
    assert (done.failed, done.exit and done.exit.code) == ("", 0), done
    return done


# --- what a run finds -------------------------------------------------------------------------------------


def test_a_run_has_a_home_and_an_environment_that_its_setup_may_change(shop: Workshop) -> None:
    setup = (
        "python -m pip --version; pip --version; uv pip list\n"
        "echo \"WORD = 'installed'\" > $(python -c 'import site; print(site.getsitepackages()[0])')/extra.py;"
    )
    run = (
        'pwd && echo "$HOME $VIRTUAL_ENV" && command -v python && command -v pip && echo "[$SUDO]" && sudo -E true\n'
        "python -c 'import extra, taskloom, sys; print(extra.WORD, sys.prefix != sys.base_prefix)'"
    )
    first = ended_well(shop.run(lease_of(Execution(run=run, setup=setup))))
    lines = first.out.splitlines()
    home, venv = str(first.home), str(first.folder / "venv")
    assert lines[0].startswith("pip ")
    assert lines[0] == lines[1]
    assert lines[-6:] == [home, f"{home} {venv}", f"{venv}/bin/python", f"{venv}/bin/pip", "[]", "installed True"]
    assert first.prepared is not None
    assert first.prepared.phase is not None
    assert first.prepared.phase.read_text() == "run"
    assert first.prepared.held == ()
    again = shop.run(lease_of(Execution(run="python -c 'import extra'")))
    assert "No module named 'extra'" in again.err  # what one attempt installed is not there for the next
    assert "has these packages already" in again.report


def test_setup_ends_at_its_first_failure_and_what_is_run_does_not_begin(shop: Workshop) -> None:
    done = shop.run(lease_of(Execution(setup="echo one\nfalse | true\necho two", run="echo never")))
    assert done.exit is not None
    assert done.exit.code == 1
    assert done.out == "one\n"
    assert done.prepared is not None
    assert done.prepared.phase is not None
    assert not done.prepared.phase.exists()
    assert shop.run(lease_of(Execution(run="false\necho on\nexit 3"))).exit.code == 3  # type: ignore[union-attr]


def test_the_code_of_a_repository_lies_in_the_home_and_under_its_name(
    shop: Workshop, repository: Path, git: Git
) -> None:
    execution = Execution(
        repository=str(repository), run="python train.py; python ~/origin/train.py; git status -s"
    )
    done = ended_well(shop.run(lease_of(execution)))
    assert done.out == "first\nfirst\n"
    assert done.prepared is not None
    assert done.prepared.commit == git(repository, "rev-parse", "HEAD").strip()


def test_of_a_directory_only_that_is_there_under_its_last_name(shop: Workshop, repository: Path, git: Git) -> None:
    (repository / "examples" / "small one").mkdir(parents=True)
    (repository / "examples" / "small one" / "go.py").write_text("print('small')\n")
    (repository / "secret.txt").write_text("not wanted")
    git(repository, "add", ".")
    git(repository, "commit", "-qm", "more")
    execution = Execution(
        repository=str(repository), directory="examples/small one", run='ls; python ~/"small one"/go.py'
    )
    assert ended_well(shop.run(lease_of(execution))).out == "small one\nsmall\n"
    for wrong, said in (
        ("nowhere", "is not in the repository"),
        ("../up", "expected a folder"),
        ("/etc", "expected"),
    ):
        changed = Execution(repository=str(repository), directory=wrong, run="true")
        assert said in shop.run(lease_of(changed)).failed


def test_a_link_in_a_repository_does_not_lead_the_directory_out_of_it(
    shop: Workshop, repository: Path, git: Git
) -> None:
    (repository / "out").symlink_to("/etc")
    git(repository, "add", ".")
    git(repository, "commit", "-qm", "a link")
    done = shop.run(lease_of(Execution(repository=str(repository), directory="out", run="ls")))
    assert "leads out of the workspace" in done.failed


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://h/g/name.git", "name"), ("git@h:g/name.git", "name"), ("h:name", "name"), ("/srv/a b", ""),
        ("https://h/g/..", ""), ("https://h/g/.git", ""), ("https://h/name/", "name"), ("https://h/-x", ""),
    ],
)  # fmt: skip
def test_the_name_of_a_repository(url: str, name: str) -> None:
    assert repository_name(url) == name


# --- uploaded files ---------------------------------------------------------------------------------------


def upload(house: House, data: bytes) -> str:
    digest = hashlib.sha256(data).hexdigest()
    headers = {"Authorization": f"Bearer {house.key}"}
    house.client.http.put(f"{house.url}/api/blobs/{digest}", content=data, headers=headers).raise_for_status()
    return digest


def test_uploaded_files_are_fetched_once_checked_and_unpacked(house: House, tmp_path: Path) -> None:
    shop = Workshop(tmp_path, address=Address(house.url, house.key), **OFFLINE)
    source = tmp_path / "source"
    (source / "inner").mkdir(parents=True)
    (source / "go.sh").write_text("#!/bin/sh\ncat inner/word\n")
    (source / "go.sh").chmod(0o755)
    (source / "inner" / "word").write_text("hello")
    packed = io.BytesIO()
    pack(folder_members(source), packed)
    execution = Execution(run="./go.sh", files=upload(house, packed.getvalue()))
    first, second = (ended_well(shop.run(lease_of(execution))) for _ in range(2))
    assert (first.out, second.out) == ("hello", "hello")
    assert ["fetching" in done.report for done in (first, second)] == [True, False]
    with zipfile.ZipFile(packed, "a") as archive:
        archive.writestr("../climbed", "out")
    climbing = shop.run(lease_of(Execution(run="true", files=upload(house, packed.getvalue()))))
    assert "would leave the folder" in climbing.failed
    assert not list(tmp_path.rglob("climbed"))
    assert "cannot be had" in shop.run(lease_of(Execution(run="true", files="0" * 64))).failed
    assert "expected 64" in shop.run(lease_of(Execution(run="true", files="../x"))).failed


def test_files_go_over_a_repository_without_following_its_links(tmp_path: Path) -> None:
    outside, source, home = tmp_path / "outside", tmp_path / "source", tmp_path / "home"
    for folder in (outside, source / "data", source / "plain", home / "plain", home / "gone"):
        folder.mkdir(parents=True)
    (home / "data").symlink_to(outside)
    (home / "file").symlink_to(outside / "target")
    for path in (source / "data" / "x", source / "file", source / "plain" / "new", source / "gone"):
        path.write_text("fresh")
    (home / "plain" / "old").write_text("kept")
    merge(source, home)
    assert list(outside.iterdir()) == []
    assert (home / "data" / "x").read_text() == "fresh"
    assert not (home / "file").is_symlink()
    assert sorted(path.name for path in (home / "plain").iterdir()) == ["new", "old"]
    assert (home / "gone").read_text() == "fresh"


# --- values -----------------------------------------------------------------------------------------------

HOSTILE = "a'b\"c $(touch pwned) `touch pwned` ; touch pwned #\n{{secret.OTHER}} {{param.lr}} \\"


def test_values_reach_shell_lines_as_one_word_whatever_they_are(shop: Workshop) -> None:
    run = 'printf \'%s|\' {{secret.TOKEN}} "$FROM_ENV" {{param.lr}} {{param.name}} "$TASKLOOM_PARAM_LR"; ls'
    execution = Execution(run=run, variables={"FROM_ENV": "<{{secrets.TOKEN}}>"})
    lease = lease_of(execution, secrets={"TOKEN": HOSTILE}, lr=0.1, name="two words; touch pwned")
    done = ended_well(shop.run(lease))
    assert done.out == f"{HOSTILE}|<{HOSTILE}>|0.1|two words; touch pwned|0.1|"


def test_a_secret_is_in_no_argument_and_no_report_and_its_files_are_private(shop: Workshop) -> None:
    secret = "correct-horse-battery"
    seen: list[str] = []

    async def look(prepared: Prepared) -> None:
        while not (prepared.cwd / "up").exists():
            await asyncio.sleep(0.05)
        for process in psutil.process_iter():
            try:
                seen.append(" ".join(process.cmdline()))
            except psutil.Error:
                continue
        (prepared.cwd / "go").touch()

    run = "cat $TASKLOOM_SECRETS > got; : {{secret.TOKEN}}; touch up; while [ ! -e go ]; do sleep 0.05; done"
    lease = lease_of(Execution(run=run, setup="test -n {{secret.TOKEN}}"), secrets={"TOKEN": secret})
    done = ended_well(shop.run(lease, meanwhile=look))
    assert seen
    assert not any(secret in line for line in seen)
    assert secret not in done.report + done.out + done.err
    assert json.loads((done.home / "got").read_text()) == {"TOKEN": secret}
    for name in ("run.sh", "setup.sh", "program.sh", "secrets.json"):
        assert stat.S_IMODE((done.folder / name).stat().st_mode) == 0o600


def test_parameters_are_variables_and_fill_the_texts_edited_values_too(shop: Workshop) -> None:
    parameters = {
        "General": {"batch-size": Parameter("8", "int"), "key": Parameter("{{secret.T}}", "str")},
        "Args": {"lr": Parameter("1e-4", "float")},
    }
    run = "echo $TASKLOOM_PARAM_BATCH_SIZE $TASKLOOM_PARAM_KEY {{param.batch-size}} {{param.Args/lr}}"
    lease = lease_of(Execution(run=run), parameters=parameters, secrets={"T": "from the secret"})
    assert ended_well(shop.run(lease)).out == "8 from the secret 8 1e-4\n"


@pytest.mark.parametrize(
    ("execution", "more", "said"),
    [
        ({"run": "echo {{secret.A}} {{secret.B}}"}, {"secrets": {"B": "x"}}, "secrets without a value: A "),
        ({"run": "echo {{param.lr}} {{param.Args/x}}"}, {}, "parameters without a value: lr, Args/x"),
        ({"run": "true", "variables": {"1A": "x"}}, {}, "'1A': not a name"),
        ({"run": "true", "variables": {"A=B": "x"}}, {}, "'A=B': not a name"),
        ({"run": "true", "variables": {"LD_PRELOAD": "x"}}, {}, "'LD_PRELOAD': not for a task to set"),
        ({"run": "true", "variables": {"BASH_ENV": "x"}}, {}, "'BASH_ENV': not for a task to set"),
        ({"run": "true", "variables": {"A": "x\0"}}, {}, "'A': its value holds a NUL"),
        ({"run": "echo \0"}, {}, "the shell lines hold a NUL"),
        ({"command": ("echo", "{{secret.A}}")}, {"secrets": {"A": "hush hush"}}, "would show a secret"),
        ({"command": ("echo", "{{param.p}}")}, {"secrets": {"A": "hush"}, "p": "{{secret.A}}"}, "would show a secret"),
        ({"repository": "ext::sh -c hush-hush", "run": "true"}, {"secrets": {"A": "hush-hush"}}, "repository"),
        ({"repository": "https://hush-hush", "directory": "-x/../y", "run": "true"}, {"secrets": {"A": "hush-hush"}}, "directory"),
    ],
)  # fmt: skip
def test_what_cannot_be_run_is_refused_before_anything_is_started_and_no_reason_shows_a_secret(
    shop: Workshop, execution: dict[str, Any], more: dict[str, Any], said: str
) -> None:
    done = shop.run(lease_of(Execution(**execution), **more))
    assert said in done.failed
    assert done.exit is None
    assert "hush" not in done.failed.replace("would show", "")


def test_names_of_parameters_in_arguments_are_filled(shop: Workshop) -> None:
    done = ended_well(shop.run(lease_of(Execution(command=("echo", "--lr={{param.lr}}")), lr=0.5)))
    assert done.out == "--lr=0.5\n"
    assert done.prepared is not None
    assert done.prepared.argv == ("echo", "--lr=0.5")  # nothing else to do: no script


def test_an_entry_point_for_a_shell_is_run_by_it(shop: Workshop) -> None:
    script = Execution(
        diff='echo "$BASH_VERSION" | grep -q . && echo "by bash $*"', entry_point="go.sh", arguments=("a b",)
    )
    foreign = {"binary": "/bin/bash"}
    done = ended_well(shop.run(lease_of(Execution(**{**_fields(script), "foreign": foreign}))))
    assert done.out == "by bash a b\n"
    wrong = Execution(**{**_fields(script), "foreign": {"binary": "bash -c x"}})
    assert "expected the name of a program" in shop.run(lease_of(wrong)).failed


def _fields(execution: Execution) -> dict[str, Any]:
    return {name: getattr(execution, name) for name in execution.__struct_fields__}

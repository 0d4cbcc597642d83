"""What of a folder goes to the server, and what a hostile one cannot do."""

from __future__ import annotations

import os
import socket
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest

from taskloom.domain.errors import BadInput, TooLarge
from taskloom.wire import folders
from taskloom.wire import operations as op
from taskloom.wire.client import build_call
from taskloom.wire.folders import choose


def plant(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def names(root: Path, *include: str) -> list[str]:
    return [name for name, _ in choose(root, include).members]


def test_ignore_files_count_at_every_level_as_git_reads_them(tmp_path: Path) -> None:
    plant(tmp_path, {
        ".gitignore": "*.log\n/build/\n!keep.log\ndata\n# a comment\n\n!\n",
        "a.log": "", "keep.log": "", "build/x": "", "src/build/x": "", "src/.gitignore": "!b.log\nlocal.py\n",
        "src/b.log": "", "src/local.py": "", "src/deep/c.log": "", "data/big": "", "local.py": "",
        ".taskloomignore": "notes.md\n", "notes.md": "", "src/notes.md": "",
    })  # fmt: skip
    assert names(tmp_path) == [
        ".gitignore", ".taskloomignore", "keep.log", "local.py", "src/.gitignore", "src/b.log", "src/build/x",
    ]  # fmt: skip
    assert names(tmp_path, "data/*", "*.log") == sorted(
        [".gitignore", ".taskloomignore", "a.log", "data/big", "keep.log", "local.py", "src/.gitignore", "src/b.log",
         "src/build/x", "src/deep/c.log"]
    )  # fmt: skip


def test_git_itself_agrees_about_what_is_ignored(tmp_path: Path) -> None:
    plant(tmp_path, {
        ".gitignore": "*.tmp\nout/\n!/out2/\n**/cache\na/**/z\nfoo[0-9].txt\n\\#x\ntrail \n/only-top\n",
        "x.tmp": "", "out/a": "", "d/out/b": "", "out2/c": "", "d/cache/e": "", "cache": "", "a/z": "", "a/b/c/z": "",
        "foo1.txt": "", "foox.txt": "", "#x": "", "trail": "", "only-top": "", "d/only-top": "", "d/.gitignore": "!y.tmp\n",
        "d/y.tmp": "", "d/e/y.tmp": "", "d/e/.gitignore": "*\n!.gitignore\n",
    })  # fmt: skip
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    told = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    assert names(tmp_path) == sorted(name for name in told.stdout.decode().split("\0") if name)


def test_rules_of_the_repository_around_the_folder_count_too(tmp_path: Path) -> None:
    plant(
        tmp_path, {".gitignore": "*.log\n/runs/secret/\n", "runs/a.log": "", "runs/secret/x": "", "runs/b.py": ""}
    )
    assert "a.log" in names(tmp_path / "runs")
    (tmp_path / ".git").mkdir()
    assert names(tmp_path / "runs") == ["b.py"]


def test_repositories_caches_and_keys_are_left_out_unless_named(tmp_path: Path) -> None:
    plant(tmp_path, {
        "train.py": "", ".git/config": "", "__pycache__/a.pyc": "", ".venv/bin/python": "", ".env": "A=1", ".env.local": "",
        ".env.example": "", "id_rsa": "", "sub/key.pem": "", ".netrc": "", "sub/.git": "gitdir: x",
    })  # fmt: skip
    chosen = choose(tmp_path)
    assert [name for name, _ in chosen.members] == [".env.example", "train.py"]
    assert chosen.left_out["files that may hold keys"] == 5
    assert names(tmp_path, ".env", "*.pem") == [".env", ".env.example", "sub/key.pem", "train.py"]


def test_links_never_lead_out_and_never_to_what_is_ignored(tmp_path: Path) -> None:
    outside = plant(tmp_path / "outside", {"secret": "s", "folder/x": "s"})
    root = plant(
        tmp_path / "root",
        {"a.txt": "a", ".env": "KEY=1", "sub/b.txt": "b", "hidden/x": "", ".gitignore": "hidden\n"},
    )
    (root / "inside").symlink_to("a.txt")
    (root / "out").symlink_to(outside / "secret")
    (root / "up").symlink_to("../outside/secret")
    (root / "out-folder").symlink_to(outside / "folder", target_is_directory=True)
    (root / "in-folder").symlink_to("sub", target_is_directory=True)
    (root / "env").symlink_to(".env")
    (root / "behind").symlink_to("hidden/x")
    (root / "circle").symlink_to("circle")
    (root / "gone").symlink_to("nothing")
    chosen = choose(root)
    assert [name for name, _ in chosen.members] == [".gitignore", "a.txt", "inside", "sub/b.txt"]
    assert chosen.left_out["links that lead out of the folder or to folders"] == 6


def test_pipes_and_sockets_are_left_out_and_nobody_waits_for_them(tmp_path: Path) -> None:
    plant(tmp_path, {"a.txt": ""})
    os.mkfifo(tmp_path / "pipe")
    os.mkfifo(tmp_path / ".gitignore")
    with socket.socket(socket.AF_UNIX) as listening:
        here = Path.cwd()
        os.chdir(tmp_path)  # the path of a socket is short
        try:
            listening.bind("socket")
        finally:
            os.chdir(here)
        chosen = choose(tmp_path)
    assert [name for name, _ in chosen.members] == ["a.txt"]
    assert chosen.left_out["pipes, sockets and devices"] == 3


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    plant(tmp_path, {"a.txt": "", "locked/x": ""})
    (tmp_path / "locked").chmod(0)
    try:
        if os.access(tmp_path / "locked", os.R_OK):
            pytest.skip("this user may read everything")
        with pytest.raises(BadInput, match=r"locked: cannot be read .* \.taskloomignore leaves it out"):
            choose(tmp_path)
    finally:
        (tmp_path / "locked").chmod(0o700)


@pytest.mark.parametrize("name", ["a\\b", "c:x", b"caf\xe9".decode("utf-8", "surrogateescape")])
def test_names_that_cannot_be_packed_are_told(tmp_path: Path, name: str) -> None:
    try:
        (tmp_path / name).write_text("")
    except OSError:
        pytest.skip("this file system has no such names")
    with pytest.raises(BadInput, match="cannot be packed"):
        choose(tmp_path)


def test_too_much_is_told_with_where_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(tmp_path, {"big/a.bin": "x" * 5000, "small.txt": "y", **{f"many/{n}": "" for n in range(20)}})
    monkeypatch.setattr(folders, "MAX_BYTES", 4000)
    with pytest.raises(TooLarge, match=r"the folder has 22 files of 5\.0 kB.*Largest: big \(1 files, 5\.0 kB\)"):
        choose(tmp_path)
    monkeypatch.setattr(folders, "MAX_BYTES", 1 << 30)
    monkeypatch.setattr(folders, "MAX_FILES", 10)
    with pytest.raises(TooLarge, match=r"Largest: many \(20 files"):
        choose(tmp_path)


def test_a_sparse_giant_is_refused_without_reading_it(tmp_path: Path) -> None:
    with (tmp_path / "giant").open("wb") as file:
        file.truncate(3 << 30)
    with pytest.raises(TooLarge, match=r"giant \(1 files, 3\.2 GB\)"):
        choose(tmp_path)


def test_the_zip_on_the_server_holds_exactly_the_chosen_files(taskloom: Any, house: Any, tmp_path: Path) -> None:
    root = plant(
        tmp_path / "code", {"task.yaml": "name: code\nrun: ./go.sh\n", "go.sh": "#!/bin/sh\n", ".env": "K=1"}
    )
    (root / "go.sh").chmod(0o755)
    ran = taskloom("run", str(root), "--draft", "--json")
    assert "left out: 1 files that may hold keys" in ran.err
    digest = ran.json["execution"]["files"]
    call = build_call(house.client.address, op.GET_BLOB, digest=digest)
    packed = tmp_path / "packed.zip"
    packed.write_bytes(house.client.http.get(call.url, headers=call.headers).content)
    with zipfile.ZipFile(packed) as archive:
        assert {entry.filename: entry.external_attr >> 16 & 0o777 for entry in archive.infolist()} == {
            "go.sh": 0o755,
            "task.yaml": 0o644,
        }

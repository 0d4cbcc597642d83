"""Nothing leads out of a workspace's folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from taskloom.evals.workspace.beneath import Beneath

GUEST = "/home/repo"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    (folder / "sub" / "deep").mkdir(parents=True)
    (folder / "a.txt").write_text("a")
    (folder / "sub" / "b.txt").write_text("b")
    (tmp_path / "secret.txt").write_text("secret")
    return folder


@pytest.fixture
def files(root: Path) -> Iterator[Beneath]:
    made = Beneath(root, GUEST)
    yield made
    made.close()


@pytest.mark.parametrize(
    "path",
    [b"a.txt", b"./a.txt", b"sub/../a.txt", b"/home/repo/a.txt", b"//home/./repo//a.txt", b"sub/deep/../../a.txt"],
)
def test_a_path_inside_is_found_however_it_is_written(files: Beneath, path: bytes) -> None:
    assert files.read(path, 10) == b"a"


@pytest.mark.parametrize(
    "path",
    [
        b"..",
        b"../secret.txt",
        b"sub/../../secret.txt",
        b"/etc/passwd",
        b"/work",
        b"/home/repository/a.txt",
        b"/home/repo/../secret.txt",
        b"/srv/../etc/passwd",
    ],
)
def test_a_path_that_leads_out_is_refused(files: Beneath, path: bytes) -> None:
    with pytest.raises(PermissionError, match="outside of the workspace"):
        files.read(path, 10)
    with pytest.raises(PermissionError, match="outside of the workspace"):
        files.real(path)


@pytest.mark.parametrize(
    "target", ["../secret.txt", "/etc/passwd", "/proc/self/root/etc/passwd", "sub/../../secret.txt"]
)
def test_a_link_that_leads_out_is_refused_at_the_end_and_on_the_way(
    files: Beneath, root: Path, target: str
) -> None:
    (root / "link").symlink_to(target)
    (root / "out").symlink_to("..")
    with pytest.raises(PermissionError):
        files.read(b"link", 10)
    with pytest.raises(PermissionError):
        files.read(b"out/secret.txt", 10)
    with pytest.raises(PermissionError):
        files.open(b"out/new.txt", os.O_WRONLY | os.O_CREAT)
    assert not (root.parent / "new.txt").exists()


def test_a_link_that_stays_inside_is_followed(files: Beneath, root: Path) -> None:
    (root / "relative").symlink_to("sub/b.txt")
    (root / "folder").symlink_to("/home/repo/sub")  # as the shell has it
    assert files.read(b"relative", 10) == b"b"
    assert files.read(b"folder/b.txt", 10) == b"b"
    assert files.read(b"folder/../a.txt", 10) == b"a"  # `..` goes up from where the link led
    assert files.real(b"folder/deep") == b"/home/repo/sub/deep"


def test_links_in_a_circle_end(files: Beneath, root: Path) -> None:
    (root / "one").symlink_to("two")
    (root / "two").symlink_to("one")
    with pytest.raises(OSError, match="symbolic links"):
        files.read(b"one", 10)


def test_writing_through_a_dangling_link_stays_inside(files: Beneath, root: Path) -> None:
    (root / "new").symlink_to("sub/made.txt")
    os.close(files.open(b"new", os.O_WRONLY | os.O_CREAT))
    assert (root / "sub" / "made.txt").exists()


def test_a_new_file_that_must_not_exist_follows_no_link(files: Beneath, root: Path) -> None:
    (root / "new").symlink_to("sub/made.txt")
    with pytest.raises(FileExistsError):
        files.open(b"new", os.O_WRONLY | os.O_CREAT | os.O_EXCL)


def test_a_pipe_is_no_file_and_blocks_nobody(files: Beneath, root: Path) -> None:
    os.mkfifo(root / "pipe")
    with pytest.raises(PermissionError, match="not a regular file"):
        files.open(b"pipe", os.O_RDONLY)


def test_a_folder_that_becomes_a_link_between_two_looks_is_not_followed(files: Beneath, root: Path) -> None:
    with files.place(b"sub/b.txt", follow=True) as (folder, name):
        (root / "sub").rename(root / "moved")
        (root / "sub").symlink_to("/etc")
        assert os.read(os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=folder), 10) == b"b"


def test_a_large_file_is_refused_and_a_zero_byte_too(files: Beneath, root: Path) -> None:
    (root / "large").write_bytes(b"x" * 11)
    with pytest.raises(OSError, match="larger than 10 bytes"):
        files.read(b"large", 10)
    with pytest.raises(OSError, match="zero byte"):
        files.read(b"a\0b", 10)


def test_the_real_path_of_what_is_not_there_has_no_dots(files: Beneath) -> None:
    assert files.real(b".") == b"/home/repo"
    assert files.real(b"sub/../new/file") == b"/home/repo/new/file"


def test_no_descriptor_is_left(files: Beneath) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for path in (b"sub/deep/../b.txt", b"nothing/here", b"../x", b"sub/b.txt/below"):
        try:
            files.read(path, 10)
        except OSError:
            continue
    assert len(os.listdir("/proc/self/fd")) == before

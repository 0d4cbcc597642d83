"""Objects and files into the spool and back: equal objects, equal bytes, and nothing hostile gets out."""

from __future__ import annotations

import gzip
import hashlib
import os
import pickle
import stat
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from taskloom.domain.artifact import Artifact
from taskloom.domain.errors import BadInput, Forbidden, TooLarge
from taskloom.sdk import rebuild
from taskloom.sdk.serialise import prepare
from taskloom.wire import archives
from taskloom.wire.archives import unpack


class Opaque:
    """Something that only pickle can hold."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Opaque) and other.value == self.value

    __hash__ = None  # type: ignore[assignment]


class Spool:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def store(self, obj: Any, name: str = "thing", **options: Any) -> Artifact:
        made = prepare(name, obj, spool=self.folder, **options)
        if made.digest:
            raw = self.bytes(made)
            assert hashlib.sha256(raw).hexdigest() == made.digest
            assert len(raw) == made.size
        assert all(not entry.name.endswith(".tmp") for entry in self.folder.iterdir())
        return made

    def bytes(self, made: Artifact) -> bytes:
        return (self.folder / made.digest).read_bytes()

    def back(self, made: Artifact, **options: Any) -> Any:
        path = self.folder.parent / made.filename
        path.write_bytes(self.bytes(made))
        return rebuild.rebuild(made, path, **options)


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    folder = tmp_path / "spool"
    folder.mkdir()
    return Spool(folder)


def frame() -> pd.DataFrame:
    return pd.DataFrame({"a": [1, 2, 3], "b": [0.5, 1.5, float("nan")], "c": ["x", "y, z", "ü"]})


def image() -> Image.Image:
    return Image.fromarray(np.arange(300, dtype=np.uint8).reshape(10, 10, 3), "RGB")


@pytest.mark.parametrize(
    ("obj", "extension", "kind", "filename"),
    [
        ({"a": 1, "b": [1.5, None, True, "ü"]}, None, "dict", "thing.json"),
        ({"a": {"b": [1, 2]}}, "yaml", "dict", "thing.yaml"),
        (OrderedDict(a=1), None, "dict", "thing.json"),
        ([1, 2, "x"], None, "dict", "thing.json"),
        (3.25, None, "dict", "thing.json"),
        (np.float32(0.5), None, "dict", "thing.json"),
        (None, None, "dict", "thing.json"),
        ({"n": np.int64(5)}, None, "dict", "thing.json"),
        ("some text, größer", None, "text", "thing.txt"),
        ("# head", ".md", "text", "thing.md"),
    ],
)
def test_plain_values(spool: Spool, obj: Any, extension: str | None, kind: str, filename: str):
    made = spool.store(obj, extension_name=extension)
    assert (made.kind, made.filename) == (kind, filename)
    assert spool.back(made) == obj
    assert made.preview


@pytest.mark.parametrize("extension", [None, "csv.gz", ".csv", "pickle"])
def test_tables(spool: Spool, extension: str | None):
    made = spool.store(frame(), extension_name=extension)
    assert made.kind == "pandas"
    assert made.filename == "thing." + (extension or "csv.gz").lstrip(".")
    pd.testing.assert_frame_equal(spool.back(made, allow_pickle=True), frame())
    assert made.preview.startswith("3 rows x 3 columns") and "y, z" in made.preview


def test_tables_keep_their_index_and_header(spool: Spool):
    for index in (["a", "b"], 1):
        table = frame().set_index(["a", "c"]) if index == 1 else frame().set_index("c")
        pd.testing.assert_frame_equal(spool.back(spool.store(table)), table)
    wide = pd.DataFrame([[1, 2]], columns=pd.MultiIndex.from_tuples([("a", "b"), ("a", "c")]))
    pd.testing.assert_frame_equal(spool.back(spool.store(wide)), wide)
    column = pd.Series([1, 2], name="n")
    pd.testing.assert_series_equal(spool.back(spool.store(column)), column)


@pytest.mark.parametrize("extension", ["parquet", "feather"])
def test_columnar_tables_need_their_package(spool: Spool, extension: str):
    pytest.importorskip("pyarrow")
    pd.testing.assert_frame_equal(spool.back(spool.store(frame(), extension_name=extension)), frame())


@pytest.mark.parametrize("extension", [None, "npy", "csv.gz", "csv"])
@pytest.mark.parametrize("array", [np.zeros((50, 40)), np.random.default_rng(1).random((50, 40))])
def test_arrays(spool: Spool, array: Any, extension: str | None):
    made = spool.store(array, extension_name=extension)
    assert made.kind == "numpy"
    np.testing.assert_allclose(spool.back(made), array)
    assert "shape (50, 40), dtype float64" in made.preview


def test_zero_and_one_dimensions_and_other_types(spool: Spool):
    for array in (
        np.array(5),
        np.array([], dtype=np.int8),
        np.array(["a", "b"]),
        np.arange(9).reshape(3, 3)[::2, ::2],
    ):
        found = spool.back(spool.store(array))
        np.testing.assert_array_equal(found, array)
        assert found.dtype == array.dtype


@pytest.mark.parametrize(
    ("extension", "form"), [(None, "PNG"), ("bmp", "BMP"), (".tiff", "TIFF"), ("JPG", "JPEG")]
)
def test_images(spool: Spool, extension: str | None, form: str):
    made = spool.store(image(), extension_name=extension)
    found = spool.back(made)
    assert (made.kind, found.format, found.size) == ("image", form, (10, 10))
    assert made.preview == f"{form} image, 10 x 10 pixels, mode RGB"
    if form != "JPEG":
        assert found.tobytes() == image().tobytes()


def test_other_objects_are_pickled_and_opened_only_when_asked(spool: Spool):
    for obj in (Opaque(3), {"a": Opaque(1)}, {1, 2}, np.array([Opaque(1)], dtype=object)):
        made = spool.store(obj)
        assert (made.kind, made.filename) == ("object", "thing.pkl")
        with pytest.raises(Forbidden, match="allow_pickle=True"):
            spool.back(made)
        assert np.all(spool.back(made, allow_pickle=True) == obj)
    assert "Opaque" in spool.store(Opaque(3)).preview


def test_pickles_can_be_refused_at_upload(spool: Spool):
    with pytest.raises(BadInput, match=r"'thing'.*Opaque.*auto_pickle"):
        spool.store(Opaque(1), auto_pickle=False)
    with pytest.raises(BadInput, match="'thing'"):
        spool.store(lambda: 1)
    assert list(spool.folder.iterdir()) == []


class Evil:
    def __reduce__(self) -> Any:
        return (os.mkdir, ("ran",))


@pytest.mark.parametrize(
    ("kind", "filename", "media_type"),
    [
        ("dict", "x.json", ""),
        ("dict", "x.yaml", ""),
        ("pandas", "x.csv.gz", ""),
        ("pandas", "x.csv", ""),
        ("numpy", "x.npz", ""),
        ("numpy", "x.npy", ""),
        ("image", "x.png", ""),
        ("text", "x.txt", ""),
    ],
)
def test_a_pickle_under_another_name_is_not_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, filename: str, media_type: str
):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / filename
    path.write_bytes(pickle.dumps(Evil()))
    named = Artifact("x", kind=kind, filename=filename, media_type=media_type)
    try:
        rebuild.rebuild(named, path, allow_pickle=True)
    except BadInput:
        pass
    assert not (tmp_path / "ran").exists()


def test_an_array_that_hides_a_pickle_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "x.npz"
    np.savez(path, np.array([Evil()], dtype=object))
    with pytest.raises(BadInput, match="cannot be read as numpy"):
        rebuild.rebuild(Artifact("x", kind="numpy", filename="x.npz"), path, allow_pickle=True)
    assert not (tmp_path / "ran").exists()


def test_yaml_makes_no_objects_and_bounds_its_depth(tmp_path: Path):
    path = tmp_path / "x.yaml"
    named = Artifact("x", kind="dict", filename="x.yaml")
    path.write_text("!!python/object/apply:os.mkdir [ran]")
    with pytest.raises(BadInput):
        rebuild.rebuild(named, path)
    path.write_text("[" * 20_000)
    with pytest.raises(BadInput, match="nests 20000"):
        rebuild.rebuild(named, path)
    path.write_text("- " * 20_000 + "x")
    with pytest.raises(BadInput):
        rebuild.rebuild(named, path)


def test_deep_json_is_an_error_and_no_crash(tmp_path: Path):
    path = tmp_path / "x.json"
    path.write_text("[" * 100_000)
    with pytest.raises(BadInput, match="cannot be read as dict"):
        rebuild.rebuild(Artifact("x", kind="dict", filename="x.json"), path)


def test_a_table_that_unpacks_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(rebuild, "FREE_BYTES", 1 << 20)
    path = tmp_path / "x.csv.gz"
    path.write_bytes(gzip.compress(b"a\n" + b"1\n" * (8 << 20)))
    with pytest.raises(TooLarge):
        rebuild.rebuild(Artifact("x", kind="pandas", filename="x.csv.gz", media_type="text/csv"), path)


@pytest.mark.parametrize(
    "make",
    [
        lambda: {"b": 1, "a": 2},
        frame,
        lambda: np.arange(1000.0),
        image,
        lambda: "text",
        lambda: Opaque(1),
    ],
)
def test_the_same_object_has_the_same_digest(spool: Spool, make: Any, monkeypatch: pytest.MonkeyPatch):
    first = spool.store(make())
    monkeypatch.setattr("time.time", lambda: 2_000_000_000.0)
    assert spool.store(make()).digest == first.digest
    assert len(list(spool.folder.iterdir())) == 1


# --- files and folders -------------------------------------------------------------------------------------


def test_a_file_is_copied_as_it_is_now(spool: Spool, tmp_path: Path):
    path = tmp_path / "data set.bin"
    path.write_bytes(os.urandom(3 << 20))
    before = path.read_bytes()
    made = spool.store(str(path))
    path.write_bytes(b"changed")
    assert (made.kind, made.filename, spool.bytes(made)) == ("file", "data set.bin", before)
    assert made.preview == ""
    assert spool.store(path).preview == "changed"


def test_a_path_that_is_not_there(spool: Spool, tmp_path: Path):
    with pytest.raises(BadInput, match=r"'thing'.*nowhere\.csv"):
        spool.store(tmp_path / "nowhere.csv")
    assert spool.store(str(tmp_path / "nowhere.csv")).kind == "text"


def test_pipes_and_devices_are_refused_without_waiting_for_them(spool: Spool, tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(BadInput, match="neither a file nor a folder"):
            spool.store(path)


def test_an_address_is_only_named(spool: Spool):
    made = spool.store("https://host.example/data.csv", preview="far away")
    assert (made.uri, made.digest, made.preview) == ("https://host.example/data.csv", "", "far away")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "folder"
    for name, text in (("a.txt", "a" * 10_000), ("sub/größe.csv", "1,2\n"), ("sub/run.sh", "#!/bin/sh\n")):
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_text(text)
    (made / "sub/run.sh").chmod(0o755)
    (made / "random.bin").write_bytes(os.urandom(200_000))
    (made / "empty").mkdir()
    return made


def contents(folder: Path) -> dict[str, bytes | None]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def test_a_folder_comes_back_whole(spool: Spool, folder: Path, tmp_path: Path):
    made = spool.store(str(folder))
    assert (made.kind, made.filename) == ("folder", "thing.zip")
    assert "4 files" in made.preview and "größe.csv" in made.preview
    target = tmp_path / "target"
    target.mkdir()
    unpack(spool.folder / made.digest, target)
    assert contents(target) == contents(folder)
    assert (target / "sub/run.sh").stat().st_mode & 0o777 == 0o755


def test_the_same_folder_has_the_same_digest_whenever_it_was_made(spool: Spool, folder: Path):
    first = spool.store(folder)
    for path in folder.rglob("*"):
        os.utime(path, (1, 1))
    assert spool.store(folder).digest == first.digest


def test_links_never_lead_out_of_a_folder(spool: Spool, folder: Path, tmp_path: Path):
    (tmp_path / "secret").write_text("secret")
    (folder / "out").symlink_to(tmp_path / "secret")
    (folder / "outside").symlink_to(tmp_path)
    (folder / "circle").symlink_to("circle")
    (folder / "in").symlink_to("a.txt")
    os.mkfifo(folder / "pipe")
    made = spool.store(folder)
    with zipfile.ZipFile(spool.folder / made.digest) as archive:
        names = archive.namelist()
        assert archive.read("in") == b"a" * 10_000
    assert not {"out", "circle", "pipe"} & set(names)
    assert not any(name.startswith("outside") for name in names)


def test_a_wildcard_takes_what_it_matches(spool: Spool, folder: Path, tmp_path: Path):
    made = spool.store(str(folder / "**/*.csv"))
    with zipfile.ZipFile(spool.folder / made.digest) as archive:
        assert archive.namelist() == ["sub/größe.csv"]
    made = spool.store(str(folder / "s*"))
    with zipfile.ZipFile(spool.folder / made.digest) as archive:
        assert archive.namelist() == ["sub/größe.csv", "sub/run.sh"]
    with pytest.raises(BadInput, match="no file matches"):
        spool.store(folder / "*.nothing")
    assert spool.store("what? [a] * b").kind == "text"


def hostile(path: Path, *entries: tuple[str, bytes, int]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data, mode in entries:
            info = zipfile.ZipInfo(name)
            info.create_system = 3
            info.external_attr = mode << 16
            archive.writestr(info, data)
    return path


FILE, LINK, DEVICE = stat.S_IFREG | 0o644, stat.S_IFLNK | 0o777, stat.S_IFCHR | 0o666


@pytest.mark.parametrize(
    "entries",
    [
        [("../out", b"x", FILE)],
        [("a/../../out", b"x", FILE)],
        [("/abs/out", b"x", FILE)],
        [("..\\out", b"x", FILE)],
        [("C:\\out", b"x", FILE)],
        [("link", b"/tmp", LINK), ("link/out", b"x", FILE)],
        [("link", b"../out", LINK)],
        [("device", b"", DEVICE)],
        [("a", b"x", FILE), ("a/b", b"x", FILE)],
        [("a/b", b"x", FILE), ("a", b"x", FILE)],
        [("a", b"x", FILE), ("./a", b"y", FILE)],
    ],
)
def test_hostile_archives_are_refused_before_anything_is_written(tmp_path: Path, entries: list[Any]):
    target = tmp_path / "target"
    target.mkdir()
    archive = hostile(tmp_path / "x.zip", *entries)
    before = set(tmp_path.rglob("*"))
    with pytest.raises(BadInput):
        unpack(archive, target)
    assert set(tmp_path.rglob("*")) == before


def test_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    target = tmp_path / "target"
    target.mkdir()
    monkeypatch.setattr(archives, "MAX_ENTRIES", 2)
    with pytest.raises(TooLarge):
        unpack(hostile(tmp_path / "many.zip", *((str(n), b"", FILE) for n in range(3))), target)
    monkeypatch.setattr(archives, "MAX_BYTES", 1000)
    with pytest.raises(TooLarge):
        unpack(hostile(tmp_path / "large.zip", ("a", b"x" * 1001, FILE)), target)
    assert list(target.iterdir()) == []


def test_an_archive_that_lies_about_its_size_is_cut_off(tmp_path: Path):
    archive = hostile(tmp_path / "x.zip", ("a", b"x" * 5000, FILE))
    raw = archive.read_bytes()
    archive.write_bytes(raw.replace((5000).to_bytes(4, "little"), (10).to_bytes(4, "little")))
    target = tmp_path / "target"
    target.mkdir()
    with pytest.raises((BadInput, TooLarge)):
        unpack(archive, target)
    assert all(path.stat().st_size <= 10 for path in target.rglob("*"))


def test_setuid_is_dropped(tmp_path: Path):
    target = tmp_path / "target"
    target.mkdir()
    unpack(hostile(tmp_path / "x.zip", ("a", b"x", stat.S_IFREG | 0o6755)), target)
    assert (target / "a").stat().st_mode & 0o7777 == 0o755


def test_something_else_than_a_zip(tmp_path: Path):
    (tmp_path / "x.zip").write_bytes(b"PK\x03\x04 nonsense")
    with pytest.raises(BadInput, match="not a zip file"):
        unpack(tmp_path / "x.zip", tmp_path)


# --- names, metadata, previews -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("obj", "extension"),
    [({"a": 1}, "toml"), (frame(), "xlsx"), (np.zeros(3), "mat"), (image(), "txt"), (Opaque(1), "json")],
)
def test_a_form_that_the_type_has_not(spool: Spool, obj: Any, extension: str):
    with pytest.raises(BadInput, match=rf"'thing'.*{extension}"):
        spool.store(obj, extension_name=extension)


def test_names_are_data_and_never_a_path(spool: Spool):
    assert spool.store("x", name="../../etc/passwd").filename == "_.._etc_passwd.txt"
    assert spool.store("x", name="größe / 1").filename == "größe _ 1.txt"
    assert spool.store("x", name="../../etc/passwd").name == "../../etc/passwd"
    with pytest.raises(BadInput):
        spool.store("x", name=" ")


def test_metadata_is_what_json_holds(spool: Spool):
    assert spool.store("x", metadata={"n": np.float64(1.5), "l": (1, 2)}).metadata == {"n": 1.5, "l": [1, 2]}
    with pytest.raises(BadInput, match="metadata"):
        spool.store("x", metadata={"n": Opaque(1)})


def test_previews_are_bounded(spool: Spool):
    assert len(spool.store("x" * 100_000).preview) == 4096
    assert len(spool.store("x", preview="y" * 200_000).preview) == 64 << 10
    assert spool.store({"a": list(range(100_000))}).preview.startswith("{")
    assert len(spool.store({"a": list(range(100_000))}).preview) <= 4096


def test_text_that_is_no_unicode(spool: Spool):
    with pytest.raises(BadInput, match="not valid Unicode"):
        spool.store("\ud800")
    assert spool.back(spool.store({"a": "\ud800"})) == {"a": "\ud800"}


def test_nothing_is_left_in_the_spool_when_writing_fails(spool: Spool, monkeypatch: pytest.MonkeyPatch):
    class Broken:
        def __reduce__(self) -> Any:
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        spool.store(Broken())
    assert list(spool.folder.iterdir()) == []

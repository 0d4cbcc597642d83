"""The documents are true: generated pages are fresh, named files exist, every variable and setting has its place."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from taskloom.domain.taskfile import parse
from taskloom.domain.taskfile.fields import RESOURCES, SWEEPS, TASK
from taskloom.domain.taskfile.schemas import FORM_KEYS, KEYS, SYNONYMS
from taskloom.wire.configuration import SETTINGS, Entry

ROOT = Path(__file__).parents[3]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "docs" / "decisions").glob("*.md")])
ROOMS = {
    "domain",
    "wire",
    "journal",
    "providers",
    "sdk",
    "worker",
    "server",
    "cli",
    "tests",
    "examples",
    "integrations",
    "benchmarks",
}


@pytest.mark.parametrize(
    "name",
    ["api.md", "commands.md", "clearml-calls.md", "frameworks.md", "examples.md", "task-yaml.schema.json"],
)
def test_generated_pages_are_what_the_code_says(name: str, tmp_path: Path) -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT / 'docs')!r}); import generate; "
        f"open({str(tmp_path / name)!r}, 'w', encoding='utf-8').write(generate.PAGES[{name!r}]())"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert (tmp_path / name).read_text("utf-8") == (ROOT / "docs" / name).read_text("utf-8"), "run `make docs`"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_path_and_link_named_exists(page: Path) -> None:
    text = page.read_text("utf-8")
    for link in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (page.parent / link).exists(), link
    for path in re.findall(r"`([a-z_]+/[\w./-]*)`", text):
        if path.split("/")[0] in ROOMS:
            assert (ROOT / "src" / "taskloom" / path).exists() or (ROOT / path).exists(), path


def test_every_variable_has_a_heading() -> None:
    named: set[str] = set()
    for source in (ROOT / "src").rglob("*.py"):
        named |= set(re.findall(r"\"(TASKLOOM_[A-Z_]+)\"", source.read_text("utf-8")))
    page = (ROOT / "docs" / "settings.md").read_text("utf-8")
    headings = set(re.findall(r"^### (TASKLOOM_\w+)", page, re.M))
    rows = {entry.variable for entry in SETTINGS.values()}
    assert headings | rows == named
    assert headings >= named - rows


def test_every_setting_has_its_row() -> None:
    page = (ROOT / "docs" / "settings.md").read_text("utf-8")
    rows = [line for line in page.splitlines() if re.match(r"\| `[\w.]+` \| TASKLOOM_", line)]
    assert rows == [_row(entry) for entry in SETTINGS.values()]


def _row(entry: Entry) -> str:
    default = str(entry.default).lower() if isinstance(entry.default, bool) else entry.default
    if isinstance(default, float):
        default = f"{default:g}"
    if isinstance(default, tuple):
        default = ", ".join(default)
    return f"| `{entry.key}` | {entry.variable} | {entry.kind.expected} | {default} | {entry.help} |"


def test_every_field_of_a_task_file_is_explained() -> None:
    page = (ROOT / "docs" / "task-yaml.md").read_text("utf-8")
    for field in (*TASK, *RESOURCES, *SWEEPS):
        for name in (field.name, *field.synonyms):
            assert re.search(rf"`{name}`|^ *{name}:", page, re.M), name
    for name in (*KEYS, *FORM_KEYS, *SYNONYMS):
        assert f"`{name}`" in page, name


def test_every_task_file_in_the_documents_can_be_run() -> None:
    for page in ("task-yaml.md", "running.md"):
        for block in re.findall(r"^```yaml\n(.*?)^```", (ROOT / "docs" / page).read_text("utf-8"), re.M | re.S):
            text = block if re.search(r"^run:", block, re.M) else f"name: a task\nrun: x\n{block}"
            if "sweeps:" in text and "parameters:" not in text:
                text += "parameters: {lr: 1e-5, batch_size: 8}\n"
            parse(text)

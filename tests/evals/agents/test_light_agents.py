"""What has no model and no tools pays for neither."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.evals
HEAVY = ("asyncssh", "httpx", "mcp", "websockets", "rich")


@pytest.mark.parametrize("words", ["scripted:42", "openai:m", "gemini:m", "replay:" + "a" * 32])
def test_naming_an_agent_loads_nothing_that_only_its_calls_need(words: str) -> None:
    code = (
        "import sys; from taskloom.evals.agents import parse_agent, spec_of; "
        f"spec_of(parse_agent({words!r})); print(*(name for name in {HEAVY!r} if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []

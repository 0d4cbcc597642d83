"""The section that `taskloom clearml-config` writes, read by the unmodified client and nothing else."""

from __future__ import annotations

import subprocess
import sys

from tests.clearml.conftest import ClearML, finish

SCRIPT = """
from clearml.backend_api import Session
from clearml.backend_api.session.defs import ENV_HOST
assert not ENV_HOST.get()
session = Session()
answer = session.send_request("users", "get_current_user")
print("status=%d" % answer.status_code)
print("role=%s" % answer.json()["data"]["user"]["role"])
print("api=%s" % Session.get_api_server_host())
print("web=%s" % Session.get_app_server_host())
print("files=%s" % Session.get_files_server_host())
"""


def test_the_client_reads_the_file_that_is_written(clearml: ClearML) -> None:
    """Its home holds only this file, and no variable of ClearML is set."""
    (clearml.folder / "clearml.conf").unlink()
    environ = {**clearml.house.environment(), "HOME": str(clearml.folder)}
    words = [sys.executable, "-m", "taskloom.cli.main", "clearml-config"]
    subprocess.run(words, env=environ, check=True, capture_output=True, timeout=60)
    assert [path.name for path in clearml.folder.iterdir()] == ["clearml.conf"]
    script = clearml.folder / "script.py"
    script.write_text(SCRIPT)
    plain = {k: v for k, v in clearml.environment().items() if not k.startswith("CLEARML_")}
    ran = finish(
        subprocess.Popen(
            [str(clearml.python), str(script)],
            env=plain,
            cwd=clearml.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    ).ok()
    url = clearml.house.url
    assert (ran.said("status"), ran.said("role")) == ("200", "member")
    assert (ran.said("api"), ran.said("web"), ran.said("files")) == (url, url, f"{url}/files")

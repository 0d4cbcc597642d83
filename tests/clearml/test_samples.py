"""Debug samples that unmodified ClearML scripts report: kept with their bytes, told back, bounded as they ask."""

from __future__ import annotations

import io
import json

import httpx
from tests.clearml.conftest import ClearML

from taskloom.wire.messages import SamplesQuery
from taskloom.wire.operations import LIST_SAMPLES

REPORT = """
import json, numpy as np, io
from PIL import Image
from clearml import Task
task = Task.init(project_name="samples", task_name="reports ä samples", auto_connect_frameworks=False)
logger = task.get_logger()
for step in range(4):
    logger.report_image("images", "gray/ü", iteration=step, image=np.full((4, 6), step * 10, dtype=np.uint8))
logger.report_image("images", "pil", iteration=1, image=Image.new("RGB", (3, 2), (1, 2, 3)))
open("page.html", "w").write("<script>alert(1)</script>")
logger.report_media("media", "page", iteration=0, local_path="page.html")
logger.report_media("media", "stream", iteration=0, stream=io.BytesIO(b"RIFF" * 100), file_extension=".wav")
logger.report_media("media", "elsewhere", iteration=0, url="https://example.org/a.png")
for step in range(7):
    logger.report_image("bounded", "b", iteration=step, image=np.full((4, 4), step * 20, dtype=np.uint8),
                        max_image_history=2)
    task.flush(wait_for_uploads=True)
task.flush(wait_for_uploads=True)
got = task.get_debug_samples("images", "gray/ü")
print("got=" + json.dumps([[one["iter"], one["metric"], one["variant"], one["url"]] for one in got]))
print("id=" + task.id)
task.close()
"""


def test_samples_are_kept_with_their_bytes_and_told_back(clearml: ClearML) -> None:
    ran = clearml.run(REPORT).ok()
    task, house = ran.said("id"), clearml.house
    found = house.client.call(LIST_SAMPLES, query=SamplesQuery(all_iterations=True), task=task).samples
    by_name = {(one.title, one.series, one.iteration): one for one in found}
    assert sorted(n for title, series, n in by_name if series == "gray/ü") == [0, 1, 2, 3]
    page = by_name["media", "page", 0]
    assert page.size == len("<script>alert(1)</script>")
    assert by_name["media", "stream", 0].size == 400
    elsewhere = by_name["media", "elsewhere", 0]
    assert (elsewhere.digest, elsewhere.uri) == ("", "https://example.org/a.png")
    assert all(one.digest for one in found if one is not elsewhere)
    # The script keeps two images of a series: the others' files were overwritten, and they are gone.
    assert sorted(n for title, _, n in by_name if title == "bounded") == [5, 6]

    told = json.loads(ran.said("got"))
    assert sorted(n for n, *_ in told) == [0, 1, 2, 3]
    headers = {"authorization": f"Bearer {house.key}"}
    for iteration, title, series, url in told:
        assert (title, series) == ("images", "gray/ü")
        answer = httpx.get(url, headers=headers)
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/octet-stream"
        from PIL import Image

        image = Image.open(io.BytesIO(answer.content))
        assert image.size == (6, 4)
        assert abs(image.convert("L").getpixel((0, 0)) - iteration * 10) <= 2

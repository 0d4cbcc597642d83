"""Reports of everything that cannot be reported; nothing of it may raise."""

import io

import numpy as np

from taskloom import Task

task = Task.init(project_name="tests/bad reports", task_name="bad reports")
logger = task.get_logger()
logger.report_scalar("after", "all", 1.0, 1)


class Liar:
    def __array__(self, *_args, **_kwargs):
        raise RuntimeError("no pixels here")

    def to_plotly_json(self):
        raise RuntimeError("no figure here")


circular = {}
circular["layout"] = circular
for _ in range(2):  # the second time nothing is said any more
    logger.report_image("bad", "text", 1, image=np.array([["a", "b"]]))
    logger.report_image("bad", "object", 1, image=object())
    logger.report_image("bad", "liar", 1, image=Liar())
    logger.report_image("bad", "ragged", 1, image=[[1, 2], [3]])
    logger.report_image("bad", "line", 1, image=np.zeros(5))
    logger.report_image("bad", "batch", 1, image=np.zeros((2, 3, 4, 3)))
    logger.report_image("bad", "channels", 1, image=np.zeros((5, 5, 7)))
    logger.report_image("bad", "empty", 1, image=np.zeros((0, 5)))
    logger.report_image("bad", "giant", 1, image=np.broadcast_to(np.uint8(0), (10_000, 10_000)))
    logger.report_image("bad", "complex", 1, image=np.zeros((2, 2), dtype=complex))
    logger.report_image("bad", "none", 1)
    logger.report_image("bad", "both", 1, image=np.zeros((2, 2)), url="https://example.com/a.png")
    logger.report_image("bad", "missing", 1, local_path="/nowhere/a.png")
    logger.report_image("bad", "iteration", "one", image=np.zeros((2, 2)))
    logger.report_image("odd", "nan", 1, image=np.array([[0.0, np.nan], [np.inf, 1.0]]))
    logger.report_image("odd", "beyond", 1, image=np.array([[-3, 900], [0, 5]]))
    logger.report_media("bad", "no extension", 1, stream=io.BytesIO(b"x"))
    logger.report_media("bad", "no stream", 1, stream=5, file_extension=".bin")
    logger.report_media("bad", "folder", 1, local_path="/")
    logger.report_media("bad", "no bytes", 1, stream=b"", file_extension=".bin")
    logger.report_plotly("bad", "liar", Liar(), 1)
    logger.report_plotly("bad", "circular", circular, 1)
    logger.report_confusion_matrix("bad", "giant", np.full((1000, 1000), 0.123456789), 1)
    logger.report_confusion_matrix("bad", "labels", [[1, 2]], 1, xlabels=["one"])
    logger.report_histogram("bad", "mode", [1, 2], 1, mode="beside")
    logger.report_scatter3d("bad", "pairs", [(1, 2)], 1)
    logger.report_surface("bad", "camera", [[1]], 1, camera=(1, 2))
    logger.report_table("bad", "url", 1, url="https://example.com/a.csv")
    logger.report_table("bad", "columns", 1, table_plot={"a": [1], "b": [1, 2]})
    logger.report_matplotlib_figure("bad", "figure", object(), 1)
    logger.set_default_upload_destination("ftp://example.com/x")
    logger.set_default_debug_sample_history("many")
    logger.report_table("long", "table", 1, table_plot={"a": range(10_500)})
    curve = np.stack([np.arange(250_000), np.zeros(250_000)], axis=1)
    logger.report_scatter2d("long", "curve", curve, 1)
print("the script goes on")

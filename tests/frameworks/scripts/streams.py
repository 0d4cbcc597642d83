"""One task for each way to record the streams; each says the same things."""

import itertools
import logging
import os
import sys

from taskloom import Task

before = (logging.Logger.callHandlers, logging.Handler.handle)
for name, stream, words in (("err", None, "%(message)s"), ("out", sys.stdout, "%(message)s")):
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter(words))
    logging.getLogger(name).addHandler(handler)
    logging.getLogger(name).propagate = False
    logging.getLogger(name).setLevel(logging.INFO)
logging.getLogger("nowhere").addHandler(logging.NullHandler())
logging.getLogger("nowhere").propagate = False

ways = {
    "".join(map(str, way)): dict(zip(("stdout", "stderr", "logging"), map(bool, way), strict=True))
    for way in itertools.product((0, 1), repeat=3)
}
for name, streams in (*ways.items(), ("stdout only", {"stdout": True})):
    task = Task.init(
        project_name="tests/streams",
        task_name=f"streams {name}",
        auto_connect_frameworks=False,
        auto_resource_monitoring=False,
        auto_connect_streams=streams,
    )
    print("printed")
    sys.stderr.write("complained\n")
    logging.getLogger("err").warning("to %s", "stderr")
    logging.getLogger("err").debug("too quiet")
    logging.getLogger("out").info("to stdout")
    logging.getLogger("nowhere").error("nobody prints it")
    logging.getLogger("any other").warning("last resort")
    logging.getLogger("any other").info("below the last resort")
    os.system("echo child; echo child err >&2")
    task.get_logger().report_text("reported")
    task.get_logger().report_text("only reported", level=logging.ERROR, print_console=False)
    task.close()
assert not logging.getLogger().handlers
print("undone:", (logging.Logger.callHandlers, logging.Handler.handle) == before)

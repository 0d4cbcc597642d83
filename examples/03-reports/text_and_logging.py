"""Text: what is printed, what is reported with a level, and what goes through Python's `logging`.

    python examples/03-reports/text_and_logging.py --who you

Standard error is not recorded here, and yet the messages of `logging` are.
"""

import argparse
import logging
import sys

from taskloom import Logger, Task


def main() -> None:
    task = Task.init(
        project_name="examples/reports",
        task_name="text and logging",
        auto_connect_streams={"stdout": True, "stderr": False, "logging": True},
    )
    parser = argparse.ArgumentParser()
    parser.add_argument("--who", default="world")
    who = parser.parse_args().who

    logging.basicConfig(level=logging.INFO, format="%(levelname)s from %(name)s: %(message)s")
    print(f"hello, {who}")
    sys.stderr.write("this is not recorded\n")
    logging.getLogger("training").info("step %d of %d", 1, 2)
    logging.getLogger("training").debug("too quiet to be heard")
    logging.getLogger("training").warning("the learning rate is high")

    logger = Logger.current_logger()
    logger.report_text("reported and printed")
    logger.report_text("something is wrong", level=logging.ERROR)
    logger.report_text("only in the task's console", level=logging.WARNING, print_console=False)
    task.flush(wait_for_uploads=True)


if __name__ == "__main__":
    main()

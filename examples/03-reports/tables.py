"""Tables: of pandas, of rows, of columns by name, and of a CSV file.

python examples/03-reports/tables.py --rows 3
"""

import argparse
import tempfile
from pathlib import Path

import pandas as pd

from taskloom import Logger, Task


def main() -> None:
    Task.init(project_name="examples/reports", task_name="tables", task_type="data_processing")
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=3)
    rows = parser.parse_args().rows

    logger = Logger.current_logger()
    animals = [("cat", 4.0, True), ("dog", 9.5, True), ("owl", 1.2, False), ("fox", 6.1, False)]
    frame = pd.DataFrame(animals[:rows], columns=["animal", "weight", "tame"])
    frame.index.name = "number"
    logger.report_table("table", "pandas", iteration=0, table_plot=frame)
    levels = frame.set_index(["animal", "weight"], append=True)
    logger.report_table("table", "levels", iteration=0, table_plot=levels)
    logger.report_table("table", "rows", iteration=0, table_plot=[["x", "y"], [1, "a"], [2, "b"]])
    logger.report_table("table", "columns", iteration=0, table_plot={"x": [1, 2], "y": ["a", "b"]})

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "animals.csv"
        frame.to_csv(path, index=False)
        wide = {"columnwidth": [200, 100]}
        logger.report_table("table", "file", iteration=0, csv=str(path), extra_data=wide)
    print(f"{len(frame)} animals")


if __name__ == "__main__":
    main()

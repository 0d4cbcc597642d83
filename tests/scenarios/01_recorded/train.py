"""Uses most of what a script records: arguments, dictionaries, scalars, a plot, an artifact, a model, text."""

import argparse
import subprocess
import sys
from pathlib import Path

from taskloom import Logger, OutputModel, Task

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=0.1, help="step size")
parser.add_argument("--epochs", type=int, default=3)
parser.add_argument("--verbose", action="store_true")

task = Task.init(project_name="scenario/recorded", task_name="main job", tags=["scenario"])
args = parser.parse_args()
settings = task.connect({"hidden": 16, "net": {"depth": 2}})
task.set_user_properties(author="scenario")

logger = Logger.current_logger()
for epoch in range(args.epochs):
    logger.report_scalar("loss", "train", value=1.0 / (1 + epoch) * args.lr, iteration=epoch)
    print(f"epoch {epoch} with lr {args.lr} hidden {settings['hidden']}")
    task.set_progress(100 * (epoch + 1) / args.epochs)
logger.report_single_value("final", args.lr * 10)
logger.report_confusion_matrix("confusion", "test", matrix=[[3, 1], [0, 4]], iteration=args.epochs)
logger.report_text("said through the logger")
subprocess.run([sys.executable, "-c", "print('said by a child process')"], check=True)
print("said to stderr", file=sys.stderr)

task.upload_artifact("numbers", {"lr": args.lr, "hidden": settings["hidden"]})
weights = Path("weights.bin")
weights.write_bytes(b"weights of " + str(args.lr).encode())
OutputModel(task=task, framework="none", name="weights").update_weights(str(weights))

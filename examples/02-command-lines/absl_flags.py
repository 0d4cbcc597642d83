"""absl flags: they become parameters of section TF_DEFINE, whether Task.init comes before or after `app.run`.

Run it with `python absl_flags.py --lr=0.2 --layer=8 --layer=4 digits`, or with EARLY=1 for Task.init at the top.
"""

import os

from absl import app, flags

from taskloom import Task

FLAGS = flags.FLAGS
flags.DEFINE_float("lr", 0.1, "learning rate")
flags.DEFINE_integer("epochs", 3, "passes over the data", lower_bound=1)
flags.DEFINE_enum("optimizer", "sgd", ["sgd", "adam"], "how to descend")
flags.DEFINE_bool("augment", True, "whether to turn images")
flags.DEFINE_list("classes", ["0", "1"], "which digits")
flags.DEFINE_multi_integer("layer", [64], "width of a layer")
flags.DEFINE_string("note", None, "what for")


def main(argv: list[str]) -> None:
    Task.init(project_name="examples/absl", task_name="absl flags")
    print(f"train {argv[1:]} {FLAGS.lr=} {FLAGS.epochs=} {FLAGS.optimizer=} {FLAGS.augment=}")
    print(f"with {FLAGS.classes=} {FLAGS.layer=} {FLAGS.note=}")


if __name__ == "__main__":
    if os.environ.get("EARLY"):
        Task.init(project_name="examples/absl", task_name="absl flags")
    app.run(main)

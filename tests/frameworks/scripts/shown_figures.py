"""What pyplot shows, when, and under which names; and that showing still does what it did."""

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

from taskloom import Logger, Task

before = [plt.show]
task = Task.init(project_name="tests/shown figures", task_name="shown figures")
assert plt.show is not before[0]
logger = task.get_logger()

figure, axes = plt.subplots()
(line,) = axes.plot([1, 2], label="curve")
axes.set_title("before the first iteration")
assert plt.show() is None
plt.show()  # nothing has changed
line.set_ydata([2, 1])
plt.show()  # now it has
plt.close("all")

for step in range(2):
    logger.report_scalar("loss", "train", 1.0, step)
    for heights in ([1, 2], [2, 1]):
        plt.figure("same name")
        plt.clf()
        plt.bar(["a", "b"], heights)
        plt.show()
    plt.close("all")

plt.figure()
plt.plot([1, 2])
try:
    plt.gcf().show()  # without a window it warns or complains, as ever
except AttributeError as error:
    print("show:", error)
plt.close("all")

unmanaged = mpl.figure.Figure()
unmanaged.subplots().plot([1, 2])
try:
    unmanaged.show()
except AttributeError:
    print("complained as ever")

plt.figure()
plt.show()  # nothing is drawn in it
plt.close("all")


class Broken:
    def get_visible(self):
        raise RuntimeError("broken artist")


figure, axes = plt.subplots()
axes.set_title("broken")
axes.plot([1, 2])
figure.texts.append(Broken())
plt.show()
plt.close("all")

Logger.matplotlib_force_report_non_interactive(True)
plt.plot([1, 2])
plt.title("forced")
plt.show()
task.close()
assert plt.show is before[0]
plt.plot([2, 3])
plt.show()
print("the script goes on")

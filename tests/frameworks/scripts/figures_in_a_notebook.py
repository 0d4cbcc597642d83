"""Runs a notebook whose cells draw figures, and says what the cells displayed."""

import nbclient
import nbformat

CELLS = (
    "from taskloom import Task\nimport matplotlib.pyplot as plt\n"
    "task = Task.init(project_name='tests/figures in a notebook', task_name='cells')",
    "plt.plot([1, 2])\nplt.title('at the end of a cell');",
    "plt.plot([2, 1])\nplt.title('shown')\nplt.show()",
    "task.close()",
)
notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
nbclient.NotebookClient(notebook, timeout=60).execute()
print(*(output.output_type for cell in notebook.cells[1:3] for output in cell.outputs))

"""Task files: a task.yaml becomes an Execution and described parameters, or a list of everything that is wrong.

The format is Transformer Lab's, with a few fields of ours; `fields` declares them all. Pure values: who reads the
text from where, and what becomes of the task, is not said here.
"""

from taskloom.domain.taskfile.parsing import FILE_NAME, TaskFile, parse, schemas_of
from taskloom.domain.taskfile.problems import Problem, WrongTaskFile
from taskloom.domain.taskfile.values import ParameterSchema, Schemas, check_parameters, check_values

__all__ = [
    "FILE_NAME",
    "ParameterSchema",
    "Problem",
    "Schemas",
    "TaskFile",
    "WrongTaskFile",
    "check_parameters",
    "check_values",
    "parse",
    "schemas_of",
]

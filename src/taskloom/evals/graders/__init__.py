"""Graders: comparisons of texts and numbers, a shell's exit code, a model's verdict, and how they become one score."""

from taskloom.evals.graders.judge import LLMJudgeGrader, ask_agent, ask_url
from taskloom.evals.graders.scores import (
    Grader,
    combine,
    combine_all,
    combine_any,
    combine_mean,
    grader,
)
from taskloom.evals.graders.shell import BashGrader, ShellGrader
from taskloom.evals.graders.text import (
    contains,
    contains_all,
    contains_any,
    exact_match,
    f1_score,
    normalize,
    numeric_match,
)
from taskloom.evals.results import EvaluationResult, SubScore

__all__ = [
    "BashGrader",
    "EvaluationResult",
    "Grader",
    "LLMJudgeGrader",
    "ShellGrader",
    "SubScore",
    "ask_agent",
    "ask_url",
    "combine",
    "combine_all",
    "combine_any",
    "combine_mean",
    "contains",
    "contains_all",
    "contains_any",
    "exact_match",
    "f1_score",
    "grader",
    "normalize",
    "numeric_match",
]

"""Names of environment variables that a task may set, and those that it may not.

Refused is what would change the loader, the interpreter, git or Taskloom itself: the task's code is its own
business, the programs around it are not. A task file is told so when it is read, a worker refuses once more.
"""

from __future__ import annotations

import re

REFUSED = ("LD_", "DYLD_", "PYTHON", "GIT_", "TASKLOOM_")
_REFUSED_WHOLE = frozenset({"BASH_ENV", "ENV", "SHELLOPTS", "BASHOPTS", "IFS"})
_ALLOWED = frozenset({"PYTHONUNBUFFERED", "PYTHONHASHSEED", "PYTHONWARNINGS", "PYTHONFAULTHANDLER"})
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,255}")


def wrong_name(name: str) -> str:
    """Why a task may not set a variable of this name; empty when it may."""
    if not _NAME.fullmatch(name):
        return "not a name (letters, digits, underscores)"
    if name in _ALLOWED:
        return ""
    if name.startswith(REFUSED) or name in _REFUSED_WHOLE:
        return f"not for a task to set (refused are {', '.join(REFUSED)}...)"
    return ""

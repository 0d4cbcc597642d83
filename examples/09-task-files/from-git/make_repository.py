"""Makes a git repository with this folder's files below `tasks/greet`, so that there is a URL to run.

python examples/09-task-files/from-git/make_repository.py /tmp/greetings
taskloom run file:///tmp/greetings --branch main --directory tasks/greet --follow
"""

import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
target = Path(sys.argv[1]).resolve()
place = target / "tasks" / "greet"
place.mkdir(parents=True)
for name in ("task.yaml", "greet.py"):
    shutil.copy(HERE / name, place / name)


def git(*words: str) -> None:
    identity = ("-c", "user.name=Example", "-c", "user.email=example@example.org")
    subprocess.run(["git", *identity, *words], cwd=target, check=True)


git("init", "--quiet", "--initial-branch", "main")
git("add", ".")
git("commit", "--quiet", "--message", "Greet")
print(target.as_uri())

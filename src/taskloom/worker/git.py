"""Code from git: a cached mirror of each repository, a checkout of one commit, the changes on top.

A mirror is fetched only when it lacks the commit, so that a hundred tasks of one commit ask the network once.
Everything that a task names (URL, commit, branch) is data: addresses have to fit a written list, nothing may
begin with a dash, `--` stands before them, and git itself is told which protocols it may speak. Credentials
come from the lease (see `credentials`), from git's own helpers and from the URL; they stay out of every line that is
told. A mirror that was fetched with a password is for those who have the same one: others do not get its content
from the cache.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import os
from collections.abc import AsyncGenerator, Mapping, Sequence
from pathlib import Path

from taskloom.domain.errors import BadInput
from taskloom.domain.execution import Execution
from taskloom.domain.repository import check_reference, check_repository, is_commit, without_credentials
from taskloom.wire.messages import Credential
from taskloom.worker.credentials import fingerprint, helper_environment
from taskloom.worker.steps import PrepareFailed, Steps, redact

_REMOTE = "https:http:ssh:git"  # what submodules of a repository from the network may use
LOCK_SECONDS = 0.1


def check_url(url: str) -> str:
    """The URL, when it is one that git may be given; PrepareFailed names it otherwise."""
    try:
        return check_repository(url)
    except BadInput as error:
        raise PrepareFailed(redact(error.message)) from None


def git_environment(base: Mapping[str, str], url: str) -> dict[str, str]:
    """The worker's own git settings, but nothing that asks a person or speaks another protocol."""
    local = url.startswith(("/", "file:"))
    count = int(base.get("GIT_CONFIG_COUNT", "0"))
    return {
        **base,
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": base.get("GIT_ASKPASS", "true"),
        "GIT_SSH_COMMAND": base.get("GIT_SSH_COMMAND", "ssh -oBatchMode=yes"),
        "GIT_ALLOW_PROTOCOL": f"{_REMOTE}:file" if local else _REMOTE,
        "GIT_CONFIG_COUNT": str(count + 2),
        f"GIT_CONFIG_KEY_{count}": "core.hooksPath",
        f"GIT_CONFIG_VALUE_{count}": os.devnull,
        f"GIT_CONFIG_KEY_{count + 1}": "advice.detachedHead",
        f"GIT_CONFIG_VALUE_{count + 1}": "false",
        "LC_ALL": "C.UTF-8",
    }


class Repositories:
    """The mirrors below `folder`; shared by all slots and workers of this machine."""

    def __init__(self, folder: Path, environ: Mapping[str, str]) -> None:
        self._folder = folder
        self._environ = environ

    async def checkout(
        self, execution: Execution, target: Path, steps: Steps, credentials: Sequence[Credential] = ()
    ) -> str:
        """The commit that the folder `target`, which is not there or empty, now holds, without the task's changes.

        Of a repository of which the execution wants one `directory` without changes, only that is checked out.
        """
        url = check_url(execution.repository)
        env = helper_environment(git_environment(self._environ, url), credentials)
        told = without_credentials(url) + fingerprint(url, credentials)
        mirror = self._folder / hashlib.sha256(told.encode()).hexdigest()[:40]
        only = "" if execution.diff.strip() else check_directory(execution.directory)
        mirror.mkdir(parents=True, exist_ok=True, mode=0o700)
        async with locked(mirror.with_suffix(".lock")):
            if not (mirror / "HEAD").exists():
                await steps.must(("git", "init", "--bare", "--quiet", "."), mirror, env, "git init", echo=False)
            commit = await self._find(execution, url, mirror, steps, env)
            await self._copy(url, commit, mirror, target, steps, env, only)
        return commit

    async def _find(
        self, execution: Execution, url: str, mirror: Path, steps: Steps, env: Mapping[str, str]
    ) -> str:
        """The full commit, fetched when it is not here."""
        wanted = execution.commit
        if wanted:
            if not is_commit(wanted):
                raise PrepareFailed(f"commit {wanted[:80]!r}: expected 7 to 64 hexadecimal digits")
            if (found := await self._resolve(wanted, mirror, steps, env)) is not None:
                return found
        shown = without_credentials(url)
        refs = ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*", "+HEAD:refs/taskloom/head")
        fetch = ("git", "-c", "gc.auto=0", "fetch", "--quiet", "--no-tags", "--prune", "--force", "--", url)
        steps.report.say(f"taskloom: fetching {redact(shown)}")
        await steps.must((*fetch, *refs), mirror, env, f"repository {shown} cannot be fetched", echo=False)
        ref = wanted or reference(execution)
        found = await self._resolve(ref, mirror, steps, env)
        if found is None and wanted:  # not on a branch: some servers give single commits
            await steps.run((*fetch[:4], "--quiet", "--no-tags", "--", url, wanted), mirror, env, echo=False)
            found = await self._resolve(ref, mirror, steps, env)
        if found is None and ref.startswith("refs/heads/"):  # a task file says `branch` of both
            found = await self._resolve(ref.replace("heads", "tags", 1), mirror, steps, env)
        if found is None:
            what = f"commit {wanted}" if wanted else f"{ref.removeprefix('refs/')}"
            raise PrepareFailed(redact(f"{what} is not in the repository {shown} (was it pushed, or rewritten?)"))
        return found

    async def _resolve(self, ref: str, mirror: Path, steps: Steps, env: Mapping[str, str]) -> str | None:
        argv = ("git", "rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")
        done = await steps.run(argv, mirror, env, echo=False)
        return done.output.split()[-1] if done.ok and done.output.strip() else None

    async def _copy(
        self, url: str, commit: str, mirror: Path, target: Path, steps: Steps, env: Mapping[str, str], only: str
    ) -> None:
        """A repository of its own with hard links to the mirror's objects: a task may do to it what it likes."""
        clean = without_credentials(url)
        local = {**env, "GIT_ALLOW_PROTOCOL": "file"}
        clone = ("git", "clone", "--quiet", "--no-checkout", "--no-tags", "--", str(mirror), str(target))
        await steps.must(clone, mirror, local, "the checkout failed", echo=False)
        await steps.must(
            ("git", "remote", "set-url", "--", "origin", clean), target, env, "the checkout failed", echo=False
        )
        if only:
            sparse = ("git", "sparse-checkout", "set", "--cone", "--end-of-options", only)
            await steps.must(sparse, target, env, f"directory {only!r} cannot be chosen", echo=False)
        steps.report.say(f"taskloom: checking out {commit} of {redact(clean)}")
        checkout = ("git", "checkout", "--quiet", "--force", "--detach", commit)
        await steps.must(checkout, target, env, f"commit {commit} cannot be checked out", echo=False)
        if (target / ".gitmodules").is_file():
            update = ("git", "submodule", "update", "--init", "--recursive", "--quiet")
            await steps.must(update, target, env, "a submodule cannot be fetched")


async def apply_changes(diff: str, target: Path, patch: Path, steps: Steps, env: Mapping[str, str]) -> None:
    """Puts the uncommitted changes on top. Whole or not at all; what does not fit is named."""
    patch.write_bytes(diff.encode("utf-8", "surrogateescape"))
    steps.report.say(f"taskloom: applying uncommitted changes ({len(diff)} characters)")
    argv = ("git", "apply", "--whitespace=nowarn", "--", str(patch))
    done = await steps.run(argv, target, {**env, "GIT_ALLOW_PROTOCOL": ""}, echo=False)
    if not done.ok:
        steps.report.say(done.output)
        named = [line for line in done.output.splitlines() if "does not apply" in line or "No such file" in line]
        why = (named[0] if named else done.complaint).removeprefix("error: ")
        raise PrepareFailed(f"the uncommitted changes do not apply to the commit: {why}")


def check_directory(text: str) -> str:
    """A folder of a repository as git names it, empty for all of it; PrepareFailed for what leads elsewhere."""
    parts = [part for part in text.strip().split("/") if part not in {"", "."}]
    if ".." in parts or text.strip().startswith("/") or any(ord(c) < 32 or c in '\\*?[]"!' for c in text):
        raise PrepareFailed(
            f"directory {text[:80]!r}: expected a folder of the repository, such as examples/first"
        )
    return "/".join(parts)


def reference(execution: Execution) -> str:
    """The full name of the tag or branch; the repository's default branch when there is neither."""
    for kind, name in (("tags", execution.tag), ("heads", execution.branch)):
        if name:
            try:
                return f"refs/{kind}/{check_reference(name)}"
            except BadInput as error:
                raise PrepareFailed(error.message) from None
    return "refs/taskloom/head"


@contextlib.asynccontextmanager
async def locked(path: Path, *, shared: bool = False) -> AsyncGenerator[int]:
    """Holds a lock between processes; the kernel frees it when nobody has the descriptor open any more."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    with path.open("ab") as file:
        while True:
            try:
                fcntl.flock(file, kind | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                await asyncio.sleep(LOCK_SECONDS)
        yield file.fileno()

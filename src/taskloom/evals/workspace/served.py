"""A workspace that is served: a folder, a shell in it, its files, on a port of the loopback interface.

    workspace = Workspace("/srv/repo")
    capability = await workspace.start()   # ssh/2, with a key that only this start knows
    ...
    await workspace.stop()                 # nothing that any session started is left

Who may connect is who has the key; forwarding of ports, agents and screens is refused. What a shell sees stands in
`sandbox`, how one runs in `shells` and `sessions`, how files are kept inside in `beneath`.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from taskloom.evals.capabilities import Capability
from taskloom.evals.workspace.beneath import Beneath
from taskloom.evals.workspace.sandbox import (
    HOME,
    USER,
    Isolation,
    IsolationWish,
    Mount,
    Sandbox,
    View,
    check_guest,
    find_sandbox,
    find_shell,
    make_private,
    make_variables,
)
from taskloom.wire.configuration import data_folder

if TYPE_CHECKING:
    import asyncssh

    from taskloom.evals.workspace.sessions import Session
    from taskloom.evals.workspace.shells import Order, Shell

MAX_CONNECTIONS = 64  # at once, to one workspace
MAX_SESSIONS = 64  # at once, of all its connections
MAX_READ = 16 * 2**20  # bytes of a file that `read` gives
BUSY = 255  # exit code of a session that is one too many


class Workspace:
    """`root` is made when it is not there.

    name        of the capability
    network     whether the shell has this machine's network; without a sandbox it always has
    env         variables of the shell, added to a clean environment
    mounts      more files and folders that the shell sees: `Mount`, or a path, which it sees read-only
    guest_path  where the shell sees `root`; its own path when left out, and always without a sandbox
    shell       program; bash where there is one, else sh
    isolation   `auto`: bubblewrap where it works, else none, with a warning; `required`: IsolationMissing instead;
                `none`

    ValueError for a folder or a path that would show what has to stay hidden.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        name: str = "shell",
        network: bool = False,
        env: Mapping[str, str] | None = None,
        mounts: Sequence[Mount | str | Path] = (),
        guest_path: str | None = None,
        shell: str | None = None,
        isolation: IsolationWish = "auto",
    ) -> None:
        self.root = Path(root).expanduser().absolute()
        self.name, self.network = name, network
        self._wish: IsolationWish = isolation
        self._env = _check_env(env or {})
        self._mounts = tuple(_read_mount(one) for one in mounts)
        self._guest = guest_path
        self._shell = shell or find_shell()
        if guest_path is not None:
            check_guest(guest_path)
        if isolation not in {"auto", "required", "none"}:
            raise ValueError(f"isolation {isolation!r}: expected auto, required or none")
        self._served: _Served | None = None

    @property
    def isolation(self) -> Isolation:
        """What the running workspace has; RuntimeError before it was started."""
        return self._running.isolation

    @property
    def cwd(self) -> str:
        """The path of the root as the shell sees it."""
        return self._running.view.guest

    @property
    def _running(self) -> _Served:
        if self._served is None:
            raise RuntimeError("the workspace is not started")
        return self._served

    async def start(self) -> Capability:
        """Serve it; RuntimeError when it is served already, or the extra `evals` is not installed."""
        if self._served is not None:
            raise RuntimeError("the workspace is started already")
        if find_spec("asyncssh") is None:
            raise RuntimeError("a workspace needs asyncssh: pip install 'taskloom[evals]'")
        if self.root.exists() and not self.root.is_dir():
            raise ValueError(f"workspace {self.root}: expected a folder")
        self.root.mkdir(parents=True, exist_ok=True)
        root = self.root.resolve()
        _check_shown(root, "workspace", data_folder())
        for mount in self._mounts:
            _check_shown(Path(mount.source).resolve(), "mount", data_folder())
        sandbox = await asyncio.to_thread(find_sandbox, self._wish)
        guest = str(root) if self._guest is None or sandbox is None else self._guest
        if sandbox is not None:
            check_guest(guest)
        private = Path(tempfile.mkdtemp(prefix="taskloom-workspace-"))
        try:
            make_private(private)
            hidden = (Path.home(), data_folder())
            view = View(root, guest, private, self.network, self._mounts, hidden)
            served = _Served(view, sandbox, self._shell, self._env)
            self._served = served
            return await served.start(self.name)
        except BaseException:
            self._served = None
            shutil.rmtree(private, ignore_errors=True)
            raise

    async def stop(self) -> None:
        """End every connection and every process of every session; again does nothing."""
        served, self._served = self._served, None
        if served is not None:
            await served.stop()

    def read(self, path: str, limit: int = MAX_READ) -> bytes:
        """A file as a grader should read it: links that lead out of the root are not followed (PermissionError)."""
        files = Beneath(self.root, str(self.root))
        try:
            return files.read(os.fsencode(path), limit)
        finally:
            files.close()


class _Served:
    """One life of a workspace, from start to stop."""

    def __init__(self, view: View, sandbox: Sandbox | None, shell: str, env: Mapping[str, str]) -> None:
        self.view = view
        self._sandbox, self._shell, self._env = sandbox, shell, env
        self._files = Beneath(view.root, view.guest)
        self._sessions: set[Session] = set()
        self._connections: set[asyncssh.SSHServerConnection] = set()
        self._acceptor: asyncssh.SSHAcceptor | None = None

    @property
    def isolation(self) -> Isolation:
        return "none" if self._sandbox is None else "bwrap"

    @property
    def _home(self) -> str:
        return HOME if self._sandbox is not None else str(self.view.private / "home")

    async def start(self, name: str) -> Capability:
        from taskloom.evals.workspace.login import listen

        self._acceptor, host_key, client_key = await listen(self)
        port = self._acceptor.get_port()
        ssh = Capability.ssh(
            name=name, url=f"ssh://127.0.0.1:{port}", user=USER, host_pubkey=host_key, client_key=client_key
        )
        more = {"cwd": self.view.guest, "shell": Path(self._shell).name, "isolation": self.isolation}
        return Capability(ssh.name, ssh.protocol, ssh.url, {**ssh.params, **more})

    async def stop(self) -> None:
        if self._acceptor is not None:
            self._acceptor.close()
        sessions = list(self._sessions)
        for session in sessions:
            session.stop()
        for session in sessions:
            await session.finished.wait()
        for connection in list(self._connections):
            connection.abort()
        if self._acceptor is not None:
            await self._acceptor.wait_closed()
        self._files.close()
        await asyncio.to_thread(shutil.rmtree, self.view.private, ignore_errors=True)

    # --- what `login` needs -------------------------------------------------------------------------------

    def join(self, connection: asyncssh.SSHServerConnection) -> bool:
        """Whether there is room for one more connection."""
        if len(self._connections) >= MAX_CONNECTIONS:
            return False
        self._connections.add(connection)
        return True

    def leave(self, connection: asyncssh.SSHServerConnection) -> None:
        self._connections.discard(connection)

    async def serve_process(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
        from taskloom.evals.workspace.sessions import Session

        if len(self._sessions) >= MAX_SESSIONS:
            process.stderr.write(f"{MAX_SESSIONS} sessions are open, more are not allowed\n".encode())
            process.exit(BUSY)
            return
        session = Session(process, self._shell)
        self._sessions.add(session)
        try:
            await session.serve(self._start_shell, self._variables())
        finally:
            self._sessions.discard(session)

    def serve_files(self, channel: asyncssh.SSHServerChannel[bytes]) -> asyncssh.SFTPServer:
        from taskloom.evals.workspace.files import Files

        return Files(channel, self._files)

    def _variables(self) -> dict[str, str]:
        own = {} if self._sandbox is not None else {"TMPDIR": str(self.view.private / "tmp")}
        return make_variables(self._home, self._shell, {**own, **self._env})

    async def _start_shell(self, order: Order) -> Shell:
        from taskloom.evals.workspace.shells import start_shell

        return await start_shell(order, self.view, self._sandbox)


def _check_env(env: Mapping[str, str]) -> dict[str, str]:
    for name, value in env.items():
        if not name or "=" in name or "\0" in name + value:
            raise ValueError(f"variable {name!r}: expected a name without = and a value without zero bytes")
    return dict(env)


def _read_mount(given: Mount | str | Path) -> Mount:
    mount = given if isinstance(given, Mount) else Mount(given)
    if not Path(mount.source).exists():
        raise ValueError(f"mount {str(mount.source)!r}: there is no such file or folder")
    check_guest(mount.place)
    return mount


def _check_shown(path: Path, what: str, data: Path) -> None:
    kept = data.resolve()
    if path == Path("/") or path == kept or path in kept.parents or kept in path.parents:
        raise ValueError(
            f"{what} {path}: expected a folder of its own, not one that holds {kept} or is part of it"
        )

"""Runs Taskloom and its peers side by side, each workload in processes of its own, and prints ratios.

The machine may be shared and busy: only figures of the same run compare. A figure is CPU seconds where the
peers' own work is meant, wall-clock where somebody waits. `all processes` counts every process that a workload
leaves behind (a shipper, a server) until it is gone.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from uploads import measure_uploads

HERE = Path(__file__).resolve().parent
PEERS_FILE = HERE / "peers.py"
CLEARML_FILE = HERE / "clearml_client.py"
LOOPS_FILE = HERE / "training_loops.py"
ALL = ("taskloom", "trackio", "tensorboard", "goodseed", "clearml")
PATIENCE = 75.0  # seconds that one process may take
MILLION = 1_000_000
READY = re.compile(r"https?://\S+")
PR_SET_CHILD_SUBREAPER = 36

IMPORTS = {
    "taskloom": "from taskloom import Task, Logger",
    "trackio": "import trackio",
    "tensorboard": "from tensorboard.summary.writer.event_file_writer import EventFileWriter",
    "goodseed": "from goodseed import Run",
    "clearml": "from clearml import Task",
}
CALLS = {  # of one value and of twenty, so that nobody takes minutes
    "taskloom": (200_000, 20_000),
    "trackio": (20_000, 5_000),
    "tensorboard": (20_000, 5_000),
    "goodseed": (20_000, 3_000),
    "clearml": (500, 50),
}


@dataclass
class Row:
    """One line of the result: what, in which unit, the figure to reach, and what everybody measured."""

    name: str
    unit: str
    target: float | None = None
    higher: bool = False  # a larger figure is better
    figures: dict[str, float] = field(default_factory=dict)
    note: str = ""

    @property
    def reached(self) -> bool | None:
        ours = self.figures.get("taskloom")
        if ours is None or self.target is None:
            return None
        return ours >= self.target if self.higher else ours <= self.target

    def ratio(self, peer: str) -> float | None:
        """How many times better Taskloom is than the peer."""
        ours, theirs = self.figures.get("taskloom"), self.figures.get(peer)
        if not ours or theirs is None:
            return None
        return ours / theirs if self.higher and theirs else theirs / ours if not self.higher else None


# --- processes --------------------------------------------------------------------------------------------


def environment(home: Path, data: Path | None = None) -> dict[str, str]:
    gone = {"TASKLOOM_URL", "TASKLOOM_API_KEY", "TASKLOOM_DATA"}
    kept = {name: value for name, value in os.environ.items() if name not in gone}
    kept |= {"BENCH_HOME": str(home), "TRACKIO_DIR": str(home), "HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore"}
    return {**kept, "TASKLOOM_DATA": str(data or home)}


def work(peer: str, *words: object, home: Path, data: Path | None = None) -> dict[str, Any]:
    """A workload in a process of its own; its JSON, with the CPU seconds of every process it left behind."""
    script = shutil.copy(PEERS_FILE, home)  # outside of any repository, so that nobody's clean-up reads ours
    command = [sys.executable, __file__, "--reap", sys.executable, script, peer, *map(str, words)]
    done = subprocess.run(
        command,
        env=environment(home, data),
        cwd=home,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode != 0 or len(lines) < 2:
        raise RuntimeError(f"{peer} {words}: {done.returncode}\n{done.stdout[-1000:]}\n{done.stderr[-2000:]}")
    return {**json.loads(lines[-2]), **json.loads(lines[-1])}


def reap(command: list[str]) -> int:
    """Run a command and wait for all that descends from it, orphans too; print their CPU seconds."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    begun = time.perf_counter()
    child = subprocess.Popen(command)
    code = child.wait()
    script = time.perf_counter() - begun
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            break
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    told = {
        "all_cpu": used.ru_utime + used.ru_stime,
        "script_wall": script,
        "all_wall": time.perf_counter() - begun,
    }
    print("\n" + json.dumps(told), flush=True)
    return code


@contextmanager
def excused(peer: str) -> Iterator[None]:
    """A peer that fails or takes too long is left out of the line and named; Taskloom is not excused."""
    try:
        yield
    except (RuntimeError, OSError, subprocess.SubprocessError) as error:
        if peer == "taskloom":
            raise
        print(f"  {peer} is left out: {str(error).strip().splitlines()[-1]}", file=sys.stderr, flush=True)


@dataclass
class Server:
    """A running Taskloom server with a data folder of its own."""

    process: subprocess.Popen[str]
    data: Path
    url: str
    ready_after: float

    def cpu(self) -> float:
        import psutil

        times = psutil.Process(self.process.pid).cpu_times()
        return times.user + times.system

    def memory(self) -> int:
        return tree_memory(self.process.pid)

    def client(self) -> Any:
        from taskloom.wire.client import Address
        from taskloom.wire.connection import read_connection
        from taskloom.wire.send import Client

        written = read_connection(self.data)
        assert written is not None
        return Client(Address(written.url, written.api_key))

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def start_server(data: Path) -> Server:
    import urllib.request

    begun = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "taskloom.cli.main", "server", "--data", str(data), "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment(data),
    )
    assert process.stdout is not None
    found = READY.search(process.stdout.readline())
    if found is None:
        process.kill()
        raise RuntimeError("the server did not start")
    with urllib.request.urlopen(f"{found.group()}/health", timeout=10) as answer:
        answer.read()
    return Server(process, data, found.group(), time.perf_counter() - begun)


@contextmanager
def taskloom_server(folder: Path) -> Iterator[Server]:
    server = start_server(folder)
    try:
        yield server
    finally:
        server.stop()


def tree_memory(pid: int) -> int:
    """Proportional bytes of a process and its children."""
    import psutil

    top = psutil.Process(pid)
    return sum(process.memory_full_info().pss for process in [top, *top.children(recursive=True)])


def folder_size(folder: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


# --- measures ---------------------------------------------------------------------------------------------


def measure_import(scratch: Path, peers: list[str]) -> list[Row]:
    row = Row("import", "CPU s", 0.1)

    def cpu(code: str) -> float:
        command = [sys.executable, "-c", f"{code}\nimport time; print(time.process_time())"]
        env = environment(scratch)
        runs = [
            float(subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout.split()[-1])
            for _ in range(6)
        ]
        return sorted(runs[1:])[2]

    bare = cpu("pass")
    for peer in peers:
        with excused(peer):
            row.figures[peer] = cpu(IMPORTS[peer]) - bare
    return [row]


def measure_start(scratch: Path, peers: list[str]) -> list[Row]:
    begins = Row("start of a task, before the script goes on", "ms", 5.0)
    closes = Row("close of an empty task", "ms")
    for peer in peers:
        home = fresh(scratch, f"start-{peer}")
        served = taskloom_server(home) if peer == "taskloom" else nullcontext()
        with excused(peer), served:
            told = [work(peer, "start", home=home) for _ in range(1 if peer == "clearml" else 5)]
            begins.figures[peer] = sorted(one["start"] for one in told)[len(told) // 2] * 1000
            closes.figures[peer] = sorted(one["close"] for one in told)[len(told) // 2] * 1000
    return [begins, closes]


def measure_write(scratch: Path, peers: list[str]) -> list[Row]:
    """Calls of one value and of twenty: the calling thread, all processes, bytes kept."""
    rows: list[Row] = []
    for which, (values, call_target, point_target) in enumerate(((1, 3.0, 4.0), (20, 10.0, 1.5))):
        plural = "one metric" if values == 1 else f"{values} metrics"
        call = Row(f"{plural} per call, calling thread", "CPU us/call", call_target)
        wall = Row(f"{plural} per call, wall-clock", "us/call")
        every = Row(f"{plural} per call, all processes", "CPU us/point", point_target)
        served = Row(f"{plural} per call, all processes and the server", "CPU us/point")
        kept = Row(f"{plural} per call, bytes kept", "bytes/point", 10.0)
        for peer in peers:
            calls = CALLS[peer][which]
            with excused(peer):
                if peer == "taskloom":
                    told, empty, server_cpu, size = write_to_server(fresh(scratch, "write"), calls, values)
                    served.figures[peer] = (told["all_cpu"] - empty["all_cpu"] + server_cpu) / told["points"] * 1e6
                else:
                    told, empty, size = write_locally(peer, scratch, calls, values)
                call.figures[peer] = told["cpu"] / told["calls"] * 1e6
                wall.figures[peer] = told["wall"] / told["calls"] * 1e6
                every.figures[peer] = max(told["all_cpu"] - empty["all_cpu"], 0.0) / told["points"] * 1e6
                kept.figures[peer] = size / told["points"]
        every.note = "Taskloom: script and shipper; peers write to the local disk only"
        rows += [call, wall, every, served, kept]
    return rows


def write_locally(peer: str, scratch: Path, calls: int, values: int) -> tuple[dict[str, Any], dict[str, Any], int]:
    """The full and the empty run of a peer, and how much more the full one left on the disk."""
    small, large = fresh(scratch, f"{peer}-empty"), fresh(scratch, f"{peer}-full")
    empty = work(peer, "write", 0, values, home=small)
    told = work(peer, "write", calls, values, home=large)
    return told, empty, folder_size(large) - folder_size(small)


def write_to_server(home: Path, calls: int, values: int) -> tuple[dict[str, Any], dict[str, Any], float, int]:
    """The full and the empty run, the server's CPU seconds between them, and what the server's disk grew."""
    with taskloom_server(home) as server:
        empty = work("taskloom", "write", 0, values, home=home)
        idle = server.cpu()
    before = folder_size(home)
    with taskloom_server(home) as server:
        idle = server.cpu()
        told = work("taskloom", "write", calls, values, home=home)
        used = server.cpu() - idle
        arrived = points_on(server)
        if arrived < told["points"]:
            raise RuntimeError(f"{told['points']} points written, {arrived} on the server")
    return told, empty, used, folder_size(home) - before


def points_on(server: Server) -> int:
    """Every point of the benchmark's series that the server has."""
    from taskloom.wire import messages as m
    from taskloom.wire import operations as op

    client = server.client()
    tasks = client.call(op.QUERY_TASKS, m.TaskQuery(hidden=True, fields=["name"], limit=1000)).tasks
    return sum(
        series.count
        for task in tasks
        for series in client.call(op.LIST_SERIES, task=task.id).series
        if series.title == "bench"
    )


def measure_writers(scratch: Path, peers: list[str]) -> list[Row]:
    """Eight processes that write at once; every point counted back."""
    writers, calls = 8, 20_000
    speed = Row("eight writers, until the last call returned", "points/s", 150_000, higher=True)
    whole = Row("eight writers, until everything is kept", "points/s", higher=True)
    lost = Row("eight writers, lost points", "points", 0)
    lost.note = f"of {writers * calls}"
    for peer in peers:
        if peer == "clearml":
            continue  # 160,000 calls would take it a quarter of an hour
        home = fresh(scratch, f"writers-{peer}")
        with excused(peer):
            server = start_server(home) if peer == "taskloom" else None
            try:
                told, arrived, counted = run_writers(peer, home, writers, calls, server)
            finally:
                if server:
                    server.stop()
            begun = min(one["begun"] for one in told)
            speed.figures[peer] = writers * calls / (max(one["logged"] for one in told) - begun)
            whole.figures[peer] = writers * calls / (arrived - begun)
            lost.figures[peer] = writers * calls - counted
    return [speed, whole, lost]


def run_writers(
    peer: str, home: Path, writers: int, calls: int, server: Server | None
) -> tuple[list[dict[str, Any]], float, int]:
    barrier = home / "barrier"
    processes = [
        subprocess.Popen(
            [sys.executable, str(PEERS_FILE), peer, "writer", f"writer-{n}", str(calls), str(barrier)],
            env=environment(home),
            cwd=home,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for n in range(writers)
    ]
    deadline = time.monotonic() + PATIENCE
    while len(list(home.glob("barrier.*"))) < writers and time.monotonic() < deadline:
        time.sleep(0.02)
    barrier.touch()
    told = [json.loads(process.communicate(timeout=PATIENCE)[0].splitlines()[-1]) for process in processes]
    arrived = max(one["closed"] for one in told)
    if server is None:
        return told, arrived, int(work(peer, "count", home=home)["points"])
    counted = points_on(server)
    while counted < writers * calls and time.monotonic() < deadline:
        time.sleep(0.05)
        counted = points_on(server)
        arrived = time.time()
    return told, arrived, counted


def measure_read(scratch: Path, peers: list[str]) -> list[Row]:
    """A series of a million points, whole and thinned to 1,000."""
    whole = Row("1 M points read whole", "s", 0.3)
    thinned = Row("1 M points thinned to 1,000", "ms", 20.0)
    whole.note = "tensorboard: 200,000 points, times five"
    if "taskloom" in peers:
        with taskloom_server(fresh(scratch, "read-taskloom")) as server:
            whole.figures["taskloom"], thinned.figures["taskloom"] = read_from_server(server)
    for peer, points in (("trackio", MILLION), ("tensorboard", MILLION // 5)):
        if peer in peers:
            with excused(peer):
                told = work(peer, "read", points, home=fresh(scratch, f"read-{peer}"))
                whole.figures[peer] = told["wall"] * MILLION / points
                if "thinned" in told:
                    thinned.figures[peer] = told["thinned"] * 1000
    return [whole, thinned]


def read_from_server(server: Server) -> tuple[float, float]:
    """Seconds for the whole series through HTTP as columns in this process, and milliseconds thinned."""
    from taskloom.wire import messages as m
    from taskloom.wire import operations as op

    client = server.client()
    task = ship_long_task(client, MILLION)

    def timed(points: int) -> float:
        begun = time.perf_counter()
        told = client.call(
            op.GET_POINTS, query=m.PointsQuery(title="bench", series="long", points=points), task=task
        )
        seconds = time.perf_counter() - begun
        assert told.count == MILLION
        return seconds

    return sorted(timed(0) for _ in range(5))[2], sorted(timed(1000) for _ in range(9))[4] * 1000


def ship_long_task(client: Any, points: int) -> str:
    import random
    import uuid
    from array import array

    from taskloom.wire import messages as m
    from taskloom.wire import operations as op
    from taskloom.wire.records import Ended, Opened, SeriesNamed

    task, noise, step = uuid.uuid4().hex, random.Random(1), 100_000
    opened = [
        Opened(mode="new", name="long", project="bench", time=time.time()),
        SeriesNamed(number=0, title="bench", series="long"),
    ]
    client.call(op.SHIP_JOURNAL, m.JournalBatch(writer="w" * 32, events=opened), task=task)
    for start in range(0, points, step):
        columns = m.ScalarColumns(
            start=start,
            series=bytes(4 * step),
            iteration=array("q", range(start, start + step)).tobytes(),
            value=array("d", [noise.random() for _ in range(step)]).tobytes(),
            time=array("d", [1.7e9 + n / 1000 for n in range(start, start + step)]).tobytes(),
        )
        batch = m.JournalBatch(writer="w" * 32, events_start=2, scalars=columns)
        client.call(op.SHIP_JOURNAL, batch, task=task)
    ended = m.JournalBatch(writer="w" * 32, events_start=2, events=[Ended(status="completed", time=time.time())])
    client.call(op.SHIP_JOURNAL, ended, task=task)
    return task


def measure_query(scratch: Path, peers: list[str], count: int = 10_000) -> list[Row]:
    """Filter and sort many tasks by parameters and by last metrics."""
    parameters = Row(f"filter and sort {count:,} tasks by a parameter", "ms", 30.0)
    metrics = Row(f"filter and sort {count:,} tasks by a last metric", "ms", 30.0)
    if "taskloom" in peers:
        with taskloom_server(fresh(scratch, "query-taskloom")) as server:
            make_tasks(server, count)
            parameters.figures["taskloom"] = timed_query(server, "parameters.Args/lr")
            metrics.figures["taskloom"] = timed_query(server, "metrics.bench/loss")
    if "trackio" in peers:
        with excused("trackio"):
            told = work("trackio", "many", count, home=fresh(scratch, "query-trackio"))
            parameters.figures["trackio"] = told["seconds"] * 1000
    return [parameters, metrics]


def make_tasks(server: Server, count: int) -> None:
    import random
    import struct
    import uuid
    from concurrent.futures import ThreadPoolExecutor

    from taskloom.domain.parameters import encode
    from taskloom.domain.task import TaskEdit
    from taskloom.wire import messages as m
    from taskloom.wire import operations as op
    from taskloom.wire.records import Edited, Ended, Opened, SeriesNamed

    client, noise = server.client(), random.Random(1)
    values = [(number, noise.random(), noise.random()) for number in range(count)]

    def make(value: tuple[int, float, float]) -> None:
        number, rate, loss = value
        now = time.time()
        parameters = {
            "Args": {"lr": encode(rate), "number": encode(number), "name": encode(f"model {number % 7}")}
        }
        records = [
            Opened(mode="new", name=f"run {number}", project="bench", time=now),
            Edited(edit=TaskEdit(parameters=parameters), time=now),
            SeriesNamed(number=0, title="bench", series="loss"),
            Ended(status="completed", time=now),
        ]
        columns = m.ScalarColumns(0, bytes(4), bytes(8), struct.pack("<d", loss), struct.pack("<d", now))
        batch = m.JournalBatch(writer=uuid.uuid4().hex, events=records, scalars=columns)
        client.call(op.SHIP_JOURNAL, batch, task=uuid.uuid4().hex)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(make, values))


def timed_query(server: Server, key: str) -> float:
    """Milliseconds for the first hundred of those below 0.5, in order."""
    from taskloom.wire import messages as m
    from taskloom.wire import operations as op

    client = server.client()
    query = m.TaskQuery(
        where=[m.Condition(key=key, is_="<", value=0.5)],
        order_by=[key],
        fields=["parameters", "metrics", "status"],
        limit=100,
    )

    def timed() -> float:
        begun = time.perf_counter()
        told = client.call(op.QUERY_TASKS, query)
        assert len(told.tasks) == 100
        return (time.perf_counter() - begun) * 1000

    timed()
    return sorted(timed() for _ in range(9))[4]


def measure_server(scratch: Path, peers: list[str]) -> list[Row]:
    answer = Row("server, start to first answer", "s", 1.0)
    memory = Row("server, memory when idle", "MB", 50.0)
    if "taskloom" in peers:
        times: list[float] = []
        for number in range(3):
            server = start_server(fresh(scratch, f"server-{number}"))
            times.append(server.ready_after)
            time.sleep(1.0)
            memory.figures["taskloom"] = server.memory() / 1e6
            server.stop()
        answer.figures["taskloom"] = sorted(times)[1]
    code = (
        "import trackio, sys; trackio.init(project='bench', name='a', embed=False); trackio.finish(); "
        "trackio.show(project='bench', open_browser=False, block_thread=True, server_port=int(sys.argv[1]))"
    )
    commands: dict[str, Callable[[int, Path], list[str]]] = {
        "trackio": lambda port, _home: [sys.executable, "-c", code, str(port)],
        "tensorboard": lambda port, home: [
            *(sys.executable, "-m", "tensorboard.main", "--logdir", str(home), "--port", str(port)),
        ],
    }
    for peer, command in commands.items():
        if peer in peers:
            with excused(peer):
                answer.figures[peer], memory.figures[peer] = peer_server(command, fresh(scratch, f"server-{peer}"))
    memory.note = "proportional (PSS), all its processes"
    return [answer, memory]


def peer_server(command: Callable[[int, Path], list[str]], home: Path) -> tuple[float, float]:
    import socket
    import urllib.error
    import urllib.request

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    begun = time.perf_counter()
    process = subprocess.Popen(
        command(port, home),
        env=environment(home),
        cwd=home,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while time.perf_counter() - begun < PATIENCE:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
                    answer.read()
                break
            except urllib.error.HTTPError:
                break
            except OSError:
                time.sleep(0.02)
        seconds = time.perf_counter() - begun
        time.sleep(1.0)
        return seconds, tree_memory(process.pid) / 1e6
    finally:
        process.terminate()
        process.wait(20)


def measure_artifacts(scratch: Path, peers: list[str], size: int = 512 << 20) -> list[Row]:
    """One large file up and down again, with its digest checked on both sides."""
    up = Row("artifact upload", "MB/s", 150.0, higher=True)
    down = Row("artifact download", "MB/s", 150.0, higher=True)
    if "taskloom" not in peers:
        return []
    import hashlib

    from taskloom.cli.artifacts import download
    from taskloom.journal.post import Post

    home = fresh(scratch, "artifacts")
    source, target = home / "source", home / "target"
    digest = hashlib.sha256()
    with source.open("wb") as file:
        block = os.urandom(1 << 20)
        for _ in range(size >> 20):
            file.write(block)
            digest.update(block)
    with taskloom_server(fresh(scratch, "artifacts-server")) as server:
        client = server.client()
        begun = time.perf_counter()
        Post(client.address).put_file(source, digest.hexdigest())
        up.figures["taskloom"] = size / 1e6 / (time.perf_counter() - begun)
        begun = time.perf_counter()
        download(client, digest.hexdigest(), target, lambda _count: None)
        down.figures["taskloom"] = size / 1e6 / (time.perf_counter() - begun)
    return [up, down]


def measure_clearml(scratch: Path, peers: list[str], scalars: int = 100_000, tasks: int = 1_000) -> list[Row]:
    """The unmodified clearml client: against our server (column taskloom), and offline (column clearml)."""
    if "clearml" not in peers or "taskloom" not in peers:
        return []
    whole = Row("unmodified clearml: Task.init and close", "s", note="column clearml: its offline mode")
    wall = Row(f"unmodified clearml: {scalars:,} scalars and close", "s", note="column clearml: its offline mode")
    client = Row("unmodified clearml: the same, the client's process", "CPU us/point")
    share = Row("unmodified clearml: the same, our server's share", "CPU us/point")
    listed = Row(f"unmodified clearml: Task.get_tasks of {tasks:,}", "s")
    listing = Row(f"unmodified clearml: the same {tasks:,}, our server's share", "CPU ms/task")
    offline = clearml_work(scratch, None, "start")
    whole.figures["clearml"] = offline["start"] + offline["close"]
    offline = clearml_work(scratch, None, "scalars", scalars)
    wall.figures["clearml"] = offline["wall"]
    client.figures["clearml"] = offline["cpu"] / scalars * 1e6
    with taskloom_server(fresh(scratch, "clearml-served")) as server:
        clearml_work(scratch, server, "start")  # warms the server
        told = clearml_work(scratch, server, "start")
        whole.figures["taskloom"] = told["start"] + told["close"]
        before = server.cpu()
        told = clearml_work(scratch, server, "scalars", scalars)
        wall.figures["taskloom"] = told["wall"]
        client.figures["taskloom"] = told["cpu"] / scalars * 1e6
        share.figures["taskloom"] = (server.cpu() - before) / scalars * 1e6
    with taskloom_server(fresh(scratch, "clearml-listed")) as server:
        make_tasks(server, tasks)
        before = server.cpu()
        listed.figures["taskloom"] = clearml_work(scratch, server, "list", tasks)["wall"]
        listing.figures["taskloom"] = (server.cpu() - before) / tasks * 1000
    return [whole, wall, client, share, listed, listing]


def clearml_work(scratch: Path, server: Server | None, *words: object) -> dict[str, float]:
    home = fresh(scratch, "clearml-home")
    (home / "clearml.conf").write_text("")
    env = {k: v for k, v in environment(home).items() if not k.startswith(("CLEARML_", "TRAINS_"))}
    env |= {"HOME": str(home), "CLEARML_CONFIG_FILE": str(home / "clearml.conf"), "CLEARML_CACHE_DIR": str(home)}
    if server is not None:
        access, _, secret = server.client().address.api_key.removeprefix("tl_").partition("_")
        env |= {"CLEARML_API_HOST": server.url, "CLEARML_WEB_HOST": server.url}
        env |= {"CLEARML_FILES_HOST": f"{server.url}/files"}
        env |= {"CLEARML_API_ACCESS_KEY": access, "CLEARML_API_SECRET_KEY": secret}
    script = shutil.copy(CLEARML_FILE, home)
    command = [sys.executable, script, *map(str, words), *([] if server else ["offline"])]
    done = subprocess.run(
        command, env=env, cwd=home, capture_output=True, text=True, timeout=8 * PATIENCE, check=False
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode != 0 or not lines:
        raise RuntimeError(f"clearml {words}: {done.returncode}\n{done.stdout[-1000:]}\n{done.stderr[-2000:]}")
    return json.loads(lines[-1])


def measure_frameworks(scratch: Path, peers: list[str], times: int = 5) -> list[Row]:
    """What hooked frameworks cost the loop, beside the same loop that nobody watches; the medians of some runs."""
    loops = {
        "torch": (20, 1e3, Row("torch.save of 0.5 MB, added by the binding", "wall ms/save")),
        "xgboost": (300, 1e6, Row("XGBoost with two evaluation sets, added by the binding", "wall us/round")),
        "tensorboard": (20_000, 1e6, Row("SummaryWriter.add_scalar, added by the binding", "wall us/call")),
    }
    rows: list[Row] = []
    for loop, (count, unit, row) in loops.items():
        alone = loop_seconds("none", loop, count, scratch, times)
        row.note = f"nobody watching: {shown(alone / count * unit)} for one"
        for peer in (one for one in peers if one in {"taskloom", "clearml"}):
            with excused(peer):
                row.figures[peer] = (loop_seconds(peer, loop, count, scratch, times) - alone) / count * unit
        rows.append(row)
    for loaded, words in ((0, "no framework loaded"), (1, "torch, XGBoost, Matplotlib and TensorBoard loaded")):
        row = Row(f"Task.init, {words}", "ms")
        for peer in (one for one in peers if one in {"taskloom", "clearml"}):
            with excused(peer):
                row.figures[peer] = loop_seconds(peer, "init", loaded, scratch, times) * 1e3
        rows.append(row)
    return rows


def loop_seconds(peer: str, loop: str, count: int, scratch: Path, times: int) -> float:
    """The median of the seconds that the loop took."""
    home = fresh(scratch, "loops-home")
    (home / "clearml.conf").write_text("")
    env = {k: v for k, v in environment(home).items() if not k.startswith(("CLEARML_", "TRAINS_"))}
    env |= {"HOME": str(home), "CLEARML_CONFIG_FILE": str(home / "clearml.conf"), "CLEARML_CACHE_DIR": str(home)}
    command = [sys.executable, shutil.copy(LOOPS_FILE, home), peer, loop, str(count)]
    found: list[float] = []
    with taskloom_server(home) if peer == "taskloom" else nullcontext():
        for _ in range(times):
            done = subprocess.run(
                command, env=env, cwd=home, capture_output=True, text=True, timeout=2 * PATIENCE, check=False
            )
            lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
            if done.returncode != 0 or not lines:
                raise RuntimeError(
                    f"{peer} {loop}: {done.returncode}\n{done.stdout[-500:]}\n{done.stderr[-1500:]}"
                )
            found.append(json.loads(lines[-1])["wall"])
    return sorted(found)[len(found) // 2]


MEASURES: dict[str, Callable[[Path, list[str]], list[Row]]] = {
    "import": measure_import,
    "start": measure_start,
    "write": measure_write,
    "writers": measure_writers,
    "read": measure_read,
    "query": measure_query,
    "server": measure_server,
    "artifacts": measure_artifacts,
    "clearml": measure_clearml,
    "frameworks": measure_frameworks,
    "uploads": measure_uploads,
}


# --- results ----------------------------------------------------------------------------------------------


def fresh(scratch: Path, name: str) -> Path:
    folder = scratch / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def shown(value: float | None) -> str:
    if value is None:
        return "-"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def table_cells(rows: list[Row], peers: list[str]) -> tuple[list[str], list[list[str]]]:
    others = [peer for peer in peers if peer != "taskloom"]
    lines: list[list[str]] = []
    for row in rows:
        sign = ">=" if row.higher else "<="
        target = "" if row.target is None else f"{sign} {shown(row.target)}"
        mark = {True: "yes", False: "**no**", None: ""}[row.reached]
        cells = [row.name, row.unit, target, shown(row.figures.get("taskloom")), mark]
        for peer in others:
            ratio = row.ratio(peer)
            text = shown(row.figures.get(peer))
            cells.append(f"{text} (x{shown(ratio)})" if ratio is not None else text)
        lines.append(cells)
    return ["measure", "unit", "to reach", "taskloom", "reached", *others], lines


def markdown(rows: list[Row], peers: list[str]) -> str:
    heads, lines = table_cells(rows, peers)
    text = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    text += [f"| {' | '.join(line)} |" for line in lines]
    notes = [f"- {row.name}: {row.note}." for row in rows if row.note]
    return "\n".join([*text, "", *notes]) + "\n"


def print_rows(rows: list[Row], peers: list[str]) -> None:
    heads, lines = table_cells(rows, peers)
    widths = [max(len(line[n]) for line in [heads, *lines]) for n in range(len(heads))]
    for line in [heads, *lines]:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    print("\n(xN): Taskloom is N times better in this run.", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", action="append", choices=list(MEASURES), help="only these measures")
    parser.add_argument("--peer", action="append", choices=ALL, help="only these peers")
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--markdown", type=Path, help="write a table there")
    options = parser.parse_args()
    peers = [peer for peer in ALL if not options.peer or peer in options.peer]
    rows: list[Row] = []
    faults = 0
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="taskloom-bench-") as folder:
        for name in options.only or MEASURES:
            print(f"[{time.monotonic() - begun:5.0f} s] {name} ...", file=sys.stderr, flush=True)
            try:
                rows += MEASURES[name](Path(folder), peers)
            except (RuntimeError, OSError, subprocess.SubprocessError) as error:
                faults += 1
                print(f"{name} failed: {error}", file=sys.stderr, flush=True)
    print_rows(rows, peers)
    if options.json:
        told = {"machine": machine(), "seconds": time.monotonic() - begun, "rows": [asdict(row) for row in rows]}
        options.json.write_text(json.dumps(told, indent=2) + "\n")
    if options.markdown:
        options.markdown.write_text(markdown(rows, peers))
    return 1 if faults else 0


def machine() -> dict[str, Any]:
    import platform

    return {"python": platform.python_version(), "system": platform.system(), "cpus": os.cpu_count()}


if __name__ == "__main__":
    if sys.argv[1:2] == ["--reap"]:
        sys.exit(reap(sys.argv[2:]))
    sys.exit(main())

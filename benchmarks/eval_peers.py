"""One evaluation in one process: `eval_peers.py PEER RUNTIME COUNT CONCURRENCY [ADDRESS]` prints one JSON object.

Every peer runs a no-op agent in an environment that gives a prompt and a full score, as its own guide says. RUNTIME:
url (ADDRESS serves the control channel), local (a process for each run), none (what has no runtimes). `eval_peers.py PEER
serve` serves the peer's own environment until it is terminated, `stand-in` an HTTP server that says yes to everything.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ENVIRONMENTS = {"taskloom": HERE / "eval_environment.py", "hud": HERE / "eval_environment_hud.py"}


async def taskloom(runtime: str, count: int, concurrency: int, address: str) -> dict[str, Any]:
    """Recorded: the job is told as it is on the server, and the time goes on until it has everything."""
    from taskloom.evals import Runtime, Task, Taskset
    from taskloom.evals.runtimes.local import LocalRuntime

    async def agent(run: Any) -> None:
        run.trace.content = "yes"

    tasks = [Task(env="noop", id="noop", args={"number": n}) for n in range(count)]
    provider: Any = Runtime(address) if runtime == "url" else LocalRuntime(ENVIRONMENTS["taskloom"])
    last = 0.0

    def ended(_job: Any, _run: Any) -> None:
        nonlocal last
        last = time.perf_counter()

    begun, used = time.perf_counter(), time.process_time()
    job = await Taskset("bench", tasks).run(
        agent, provider, max_concurrent=concurrency, progress=ended, project="bench", keep_traces=count < 5000
    )
    recorded = time.perf_counter() - begun
    assert len(job.runs) == count
    assert job.reward == 1.0, job.errors[0].error
    return {
        "job": job.id,
        "seconds": last - begun,
        "recorded_seconds": recorded,
        "cpu": time.process_time() - used,
    }


async def hud(runtime: str, count: int, concurrency: int, address: str) -> dict[str, Any]:
    from hud.agents.base import Agent  # pyright: ignore[reportMissingImports]

    from hud import Runtime, SubprocessRuntime, Task, Taskset  # pyright: ignore[reportMissingImports]

    class Yes(Agent):
        async def __call__(self, run: Any) -> None:
            run.trace.content = "yes"

    tasks = [Task(env="noop", id="noop", args={"number": n}) for n in range(count)]
    provider = Runtime(address) if runtime == "url" else SubprocessRuntime(str(ENVIRONMENTS["hud"]))
    begun, used = time.perf_counter(), time.process_time()
    job = await Taskset("bench", tasks).run(Yes(), runtime=provider, max_concurrent=concurrency)
    seconds = time.perf_counter() - begun
    assert len(job.runs) == count
    assert job.reward == 1.0
    return {"seconds": seconds, "cpu": time.process_time() - used}


def inspect(count: int, concurrency: int) -> dict[str, Any]:
    """Its own record, a .eval file, is written; the mock model answers."""
    from inspect_ai import Task, eval  # pyright: ignore[reportMissingImports]
    from inspect_ai.dataset import Sample  # pyright: ignore[reportMissingImports]
    from inspect_ai.model import ModelOutput, ModelUsage, get_model  # pyright: ignore[reportMissingImports]
    from inspect_ai.scorer import match  # pyright: ignore[reportMissingImports]

    def outputs() -> Any:
        while True:
            output = ModelOutput.from_content("mockllm/model", "yes")
            output.usage = ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2)
            yield output

    task = Task(dataset=[Sample(input=f"say yes {n}", target="yes") for n in range(count)], scorer=match())
    model = get_model("mockllm/model", custom_outputs=outputs())
    begun, used = time.perf_counter(), time.process_time()
    (log,) = eval(
        task,
        model=model,
        max_samples=concurrency,
        max_connections=concurrency,
        display="none",
        log_dir=os.environ["BENCH_HOME"],
    )
    seconds = time.perf_counter() - begun
    assert log.status == "success"
    return {"seconds": seconds, "cpu": time.process_time() - used}


def serve(peer: str) -> None:
    """In this very process, so that its end is the server's."""
    file = str(ENVIRONMENTS[peer])
    module = "taskloom.evals.serving" if peer == "taskloom" else "hud.environment.server"
    os.execv(sys.executable, [sys.executable, "-m", module, file])


def stand_in() -> None:
    """A platform that takes every report, over connections that stay."""
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    class Yes(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        do_GET = do_POST = do_PUT = answer

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing: it would be the slowest part."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Yes)
    server.daemon_threads = True
    print(f"HUD_SERVE_PORT={server.server_port}", flush=True)
    server.serve_forever()


def main() -> None:
    peer, what, *rest = sys.argv[1:]
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if what == "serve":
        stand_in() if peer == "stand-in" else serve(peer)
        return
    count, concurrency = int(rest[0]), int(rest[1])
    address = rest[2] if len(rest) > 2 else ""
    if peer == "inspect":
        found = inspect(count, concurrency)
    else:
        found = asyncio.run({"taskloom": taskloom, "hud": hud}[peer](what, count, concurrency, address))
    found["memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps(found))


if __name__ == "__main__":
    main()

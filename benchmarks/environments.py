"""What a worker's environments cost: built the first time, found again, and copied for an attempt that changes it.

    python benchmarks/environments.py [--packages 40] [--files 100] [--rounds 5]

The packages are made on the spot (pure Python, so many modules each), so that no index is measured. Each number is the
median of the rounds, and what counts are the ratios to a warm start: one that finds its environment and only takes
the lock. Last, what searching a stream for secrets costs, as a share of sending it.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
import shutil
import statistics
import sys
import tempfile
import time
import zipfile
from base64 import urlsafe_b64encode
from pathlib import Path

from taskloom.journal.masking import Masks
from taskloom.providers.contract import Wanted
from taskloom.providers.local import LocalProvider
from taskloom.worker.packages import Environments, Wish
from taskloom.worker.steps import Report, Steps
from taskloom.worker.venvs import copy_environment


def make_wheel(folder: Path, name: str, files: int) -> None:
    info = f"{name}-1.0.dist-info"
    texts = {f"{name}/__init__.py": ""} | {
        f"{name}/m{n}.py": f"def f{n}(x):\n    return x + {n}\n" * 20 for n in range(files)
    }
    texts[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
    texts[f"{info}/WHEEL"] = "Wheel-Version: 1.0\nGenerator: bench\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    record = ""
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as wheel:
        for place, text in texts.items():
            digest = urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
            record += f"{place},sha256={digest},{len(text)}\n"
            wheel.writestr(place, text)
        wheel.writestr(f"{info}/RECORD", f"{record}{info}/RECORD,,\n")


async def rounds(folder: Path, packages: str, count: int) -> dict[str, list[float]]:
    environ = {**os.environ, "UV_OFFLINE": "1", "UV_NO_INDEX": "1", "UV_FIND_LINKS": str(folder / "wheels")}
    found: dict[str, list[float]] = {
        "cold, empty uv cache": [],
        "cold, filled uv cache": [],
        "warm": [],
        "copy": [],
    }
    for number in range(count):
        print(f"round {number + 1} of {count}", file=sys.stderr)
        environ["UV_CACHE_DIR"] = str(folder / f"uv-{number}")
        for kind in ("cold, empty uv cache", "cold, filled uv cache", "warm"):
            root = folder / "environments"
            if kind != "warm":
                shutil.rmtree(root, ignore_errors=True)
            steps_folder = Path(tempfile.mkdtemp(dir=folder))
            place = await LocalProvider().acquire(Wanted(steps_folder / "place"))
            steps = Steps(place, Report(steps_folder / "report"), steps_folder)
            began = time.perf_counter()
            async with Environments(root, environ).use(
                Wish(packages=packages, pip=True), "", steps
            ) as environment:
                found[kind].append(time.perf_counter() - began)
                if kind == "warm" and environment.folder is not None:
                    began = time.perf_counter()
                    copy_environment(environment.folder, steps_folder / "venv")
                    found["copy"].append(time.perf_counter() - began)
            await place.release()
    return found


def masking() -> float:
    """Megabytes a second that are searched for five secrets of usual length."""
    masks = Masks([os.urandom(24).hex() for _ in range(5)])
    data = b"epoch 12 step 345: loss 0.1234, accuracy 0.987, learning rate 1e-4\n" * 16_000
    began = time.perf_counter()
    for _ in range(5):
        masks.cut(lambda start, count: data[start : start + count], 0, len(data), final=True)
    return 5 * len(data) / 1e6 / (time.perf_counter() - began)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name, default in (("packages", 40), ("files", 100), ("rounds", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        (folder / "wheels").mkdir()
        names = [f"bench{number}" for number in range(chosen.packages)]
        for name in names:
            make_wheel(folder / "wheels", name, chosen.files)
        found = asyncio.run(rounds(folder, "\n".join(names), chosen.rounds))
    warm = statistics.median(found["warm"])
    print(f"{chosen.packages} packages of {chosen.files} modules; median of {chosen.rounds}")
    for kind, times in found.items():
        print(
            f"{kind:22} {statistics.median(times) * 1000:8.1f} ms  {statistics.median(times) / warm:8.1f} x warm"
        )
    print(f"searched for secrets   {masking():8.0f} MB/s")
    return 0


if __name__ == "__main__":
    sys.exit(main())

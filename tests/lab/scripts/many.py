"""Four processes that report at once."""

import multiprocessing

from lab import lab


def work(number: int) -> None:
    lab.init()
    for step in range(30):
        lab.update_progress(step, metrics={f"p{number}/loss": float(step)}, step=step)
        lab.log(f"process {number} step {step}")


if __name__ == "__main__":
    lab.init()
    spawned = multiprocessing.get_context("spawn")  # a forked copy of the package's event loop never answers
    pool = [spawned.Process(target=work, args=(n,)) for n in range(4)]
    for process in pool:
        process.start()
    for process in pool:
        process.join()

"""Train a small neural network on scikit-learn's handwritten digits, recorded by Taskloom.

Run it by hand, or let a worker run a clone of it: the arguments and the `preprocessing` dictionary then hold
whatever was edited on the server. Everything that belongs to Taskloom is marked with `# taskloom`.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
import time
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from sklearn.datasets import load_digits
from sklearn.metrics import accuracy_score, confusion_matrix, log_loss, precision_recall_fscore_support
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

from taskloom import OutputModel, Task  # taskloom


def main() -> None:
    task = Task.init(project_name="examples/digits", task_name="digits classifier")  # taskloom
    arguments = read_arguments()
    preprocessing = {"scale": 16.0, "noise": 0.02, "test_share": 0.25}
    task.connect(preprocessing, name="preprocessing")  # taskloom: the dictionary may come back edited

    images, held_out, labels, truth = load(preprocessing, arguments.seed)
    print(f"{len(images)} images to learn from, {len(held_out)} held out, {images.shape[1]} pixels each")
    network = MLPClassifier(
        hidden_layer_sizes=(arguments.hidden,),
        solver="sgd",
        learning_rate_init=arguments.learning_rate,
        momentum=0.9,
        batch_size=arguments.batch_size,
        random_state=arguments.seed,
    )
    started = time.monotonic()
    for epoch in range(1, arguments.epochs + 1):
        network.partial_fit(images, labels, classes=np.arange(10))
        figures = measure(network, {"train": (images, labels), "test": (held_out, truth)})
        for title, series, value in figures:
            task.get_logger().report_scalar(title, series, value, epoch)  # taskloom
        told = "  ".join(f"{title}/{series} {value:.4f}" for title, series, value in figures)
        print(f"epoch {epoch:3d}/{arguments.epochs}  {told}", flush=True)
        task.set_progress(100 * epoch // arguments.epochs)  # taskloom
        time.sleep(arguments.pause)  # for people who want to watch
    seconds = time.monotonic() - started

    report(task, network, held_out, truth, arguments.epochs, seconds)
    task.close()  # taskloom


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=30, help="times that every image is seen")
    parser.add_argument("--learning-rate", type=float, default=0.02, help="step of the gradient descent")
    parser.add_argument("--hidden", type=int, default=48, help="width of the hidden layer")
    parser.add_argument("--batch-size", type=int, default=32, help="images per step")
    parser.add_argument("--seed", type=int, default=7, help="of the split, the noise and the first weights")
    parser.add_argument("--pause", type=float, default=0.0, help="seconds to wait after each epoch")
    return parser.parse_args()


def load(preprocessing: dict[str, float], seed: int) -> tuple[Any, Any, Any, Any]:
    """The images scaled, with a little noise on those to learn from, split into two parts."""
    digits = load_digits()
    images = digits.data / preprocessing["scale"]
    learn, held_out, labels, truth = train_test_split(
        images, digits.target, test_size=preprocessing["test_share"], random_state=seed, stratify=digits.target
    )
    noise = np.random.default_rng(seed).normal(0.0, preprocessing["noise"], learn.shape)
    return learn + noise, held_out, labels, truth


def measure(network: Any, parts: dict[str, tuple[Any, Any]]) -> list[tuple[str, str, float]]:
    """Loss and accuracy on every part, as (title, series, value)."""
    figures: list[tuple[str, str, float]] = []
    for name, (images, labels) in parts.items():
        chances = network.predict_proba(images)
        figures.append(("loss", name, float(log_loss(labels, chances, labels=np.arange(10)))))
        figures.append(("accuracy", name, float(accuracy_score(labels, chances.argmax(axis=1)))))
    return figures


def report(task: Task, network: Any, held_out: Any, truth: Any, epochs: int, seconds: float) -> None:
    """What is left when training is over: plots, single values, an artifact, a model."""
    logger = task.get_logger()
    chances = network.predict_proba(held_out)
    guesses = chances.argmax(axis=1)
    names = [str(digit) for digit in range(10)]
    logger.report_confusion_matrix(
        "confusion",
        "test",
        matrix=confusion_matrix(truth, guesses),
        iteration=epochs,
        xaxis="predicted",
        yaxis="true",
        xlabels=names,
        ylabels=names,
    )
    precision, recall, f1, support = precision_recall_fscore_support(truth, guesses, zero_division=0)
    rows = [
        [digit, f"{precision[digit]:.3f}", f"{recall[digit]:.3f}", f"{f1[digit]:.3f}", int(support[digit])]
        for digit in range(10)
    ]
    heads = ["digit", "precision", "recall", "f1", "images"]
    logger.report_table("per digit", "test", iteration=epochs, table_plot=[heads, *rows])
    accuracy = float(accuracy_score(truth, guesses))
    logger.report_single_value("test accuracy", accuracy)
    logger.report_single_value("seconds", seconds)

    with tempfile.TemporaryDirectory() as folder:
        predictions = Path(folder) / "predictions.csv"
        write_predictions(predictions, truth, guesses, chances)
        task.upload_artifact("predictions", predictions)
        task.upload_artifact("summary", {"accuracy": accuracy, "mistakes": int((truth != guesses).sum())})
        weights = Path(folder) / "digits.joblib"
        joblib.dump(network, weights)
        model = OutputModel(task=task, name="digits network", framework="scikit-learn")
        model.update_weights(weights_filename=str(weights))
    print(f"test accuracy {accuracy:.4f} after {epochs} epochs in {seconds:.1f} s")


def write_predictions(path: Path, truth: Any, guesses: Any, chances: Any) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["image", "true", "predicted", "confidence"])
        for number, (digit, guess, chance) in enumerate(zip(truth, guesses, chances, strict=True)):
            table.writerow([number, digit, guess, f"{chance.max():.4f}"])


if __name__ == "__main__":
    main()

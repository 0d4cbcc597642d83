"""Tags of TensorBoard's writers as titles and series."""

from __future__ import annotations

import pytest

from taskloom.sdk.reports.reporting import Choices
from taskloom.sdk.translations.tags import Tags


def tags(**choices: bool) -> Tags:
    return Tags(lambda: Choices(**choices))


@pytest.mark.parametrize(
    ("tag", "names"),
    [
        ("loss/train", ("loss", "train")),
        ("loss", ("loss", "loss")),
        ("a/b/c/loss", ("a_b_c", "loss")),
        ("", ("", "")),
        ("/loss", ("/loss", "loss")),
    ],
)
def test_the_last_part_of_a_scalars_tag_is_its_series(tag: str, names: tuple[str, str]) -> None:
    assert tags().of_scalar("runs/a", tag) == names


def test_scalars_without_a_title_share_a_graph_on_wish() -> None:
    assert tags(group_scalars=True).of_scalar("runs/a", "loss") == ("Scalars", "loss")


def test_every_curve_is_a_graph_on_wish() -> None:
    one = tags(single_series=True)
    assert one.of_scalar("runs/a", "loss/train") == ("loss/train", "train")
    assert one.of_scalar("runs/b", "loss/train") == ("loss/b: train", "b: train")


@pytest.mark.parametrize(
    ("tag", "names"),
    [
        ("image", ("Images", "image")),
        ("epoch/image", ("epoch", "image")),
        ("epoch/layer/image", ("epoch", "layer_image")),
        ("run/epoch/layer/image", ("run", "epoch_layer_image")),
        ("all/run/epoch/layer/image", ("all_run", "epoch_layer_image")),
    ],
)
def test_a_samples_tag_keeps_up_to_three_parts_as_its_series(tag: str, names: tuple[str, str]) -> None:
    assert tags().of_sample("runs/a", tag, "Images") == names


def test_the_second_folder_of_a_tag_gets_what_tells_it_from_the_first() -> None:
    one = tags()
    assert one.of_scalar("runs/today/train", "loss") == ("loss", "loss")
    assert one.of_scalar("runs/today/validation", "loss") == ("loss", "validation: loss")
    assert one.of_scalar("runs/today/train", "loss") == ("loss", "loss")
    assert one.of_plot("runs/today/train", "layer", "Histograms") == ("Histograms", "layer")
    assert one.of_plot("runs/today/validation", "layer", "Histograms") == ("Histograms", "layer :validation")
    assert one.of_sample("runs/today/train", "cat", "Images") == ("Images", "cat")
    assert one.of_sample("runs/today/validation", "cat", "Images") == ("Images validation", "cat")
    assert one.of_scalar("runs", "loss") == ("loss", "runs: loss")  # nothing of it is its own
    assert one.of_scalar("C:\\runs\\windows", "loss") == ("loss", "C:/windows: loss")


@pytest.mark.parametrize(
    ("tag", "folder", "names"),
    [
        ("losses", "runs/a/losses_train", ("losses", "train")),  # torch
        ("losses", "runs/a/losses/train", ("losses", "train")),  # tensorboardX
        ("deep/losses", "runs/a/deep_losses_a/b", ("deep_losses", "a/b")),
        ("my_losses", "runs/a/my losses_train", ("my_losses", "train")),
        ("losses", "runs/a/losses_", ("losses", "losses_: losses")),
        ("losses", "elsewhere/losses_train", ("losses", "elsewhere/losses_train: losses")),
    ],
)
def test_curves_of_a_group_have_folders_below_their_writers(tag: str, folder: str, names: tuple[str, str]) -> None:
    one = tags()
    one.opened("runs/a/")
    one.of_scalar("runs/a", "losses")
    assert one.of_scalar(folder, tag) == names

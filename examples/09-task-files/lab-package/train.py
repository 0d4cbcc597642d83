"""Knows the package `lab` and nothing of Taskloom."""

from pathlib import Path

from lab import lab

lab.init()
epochs = int(lab.get_config().get("epochs", 3))
lab.log(f"training for {epochs} epochs")
loss = 1.0
for epoch in range(epochs):
    loss /= 2
    lab.update_progress(100 * (epoch + 1) // epochs, {"loss": loss}, epoch)
Path("notes.txt").write_text(f"loss {loss}\n")
lab.save_artifact("notes.txt", "notes.txt")
lab.finish("done", score={"loss": loss})

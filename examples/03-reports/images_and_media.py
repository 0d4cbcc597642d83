"""Debug samples: images of arrays, Pillow and files, sound, a page, and an address; of each the newest ten are kept.

python examples/03-reports/images_and_media.py --pictures 3
"""

import argparse
import io
import math
import struct
import tempfile
import wave
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from taskloom import Task


def main() -> None:
    task = Task.init(project_name="examples/reports", task_name="images and media")
    parser = argparse.ArgumentParser()
    parser.add_argument("--pictures", type=int, default=3)
    count = parser.parse_args().pictures
    logger = task.get_logger()
    logger.set_default_debug_sample_history(10)

    for step in range(count):
        slope = np.linspace(0, 1, 16) * (step + 1) / count
        gray = np.tile(slope, (8, 1))  # floats from 0 to 1
        logger.report_image("arrays", "gray", iteration=step, image=gray)
        channels_first = (np.stack([gray, gray.T.repeat(2, 1)[:8], 1 - gray]) * 255).astype(np.uint8)
        logger.report_image("arrays", "colours", iteration=step, image=channels_first)
        logger.report_image("arrays", "mask", iteration=step, image=gray > 0.5, max_image_history=2)

    drawing = Image.new("RGB", (64, 32), "white")
    ImageDraw.Draw(drawing).ellipse((16, 4, 48, 28), fill="teal")
    logger.report_image("drawing", "Pillow", iteration=0, image=drawing)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "drawing.gif"
        drawing.save(path)
        logger.report_image("drawing", "file", iteration=0, local_path=str(path), delete_after_upload=True)
        print("the file is deleted once a copy is safe:", not path.exists())

    logger.report_media("sound", "tone", iteration=0, stream=tone(), file_extension="wav")
    page = io.StringIO("<h1>Result</h1><script>document.title = 'never run by the server'</script>")
    logger.report_media("page", "html", iteration=0, stream=page, file_extension=".html")
    logger.report_media("far away", "video", iteration=0, url="https://example.com/film.mp4")


def tone(seconds: float = 0.05, rate: int = 8000) -> io.BytesIO:
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setparams((1, 2, rate, 0, "NONE", ""))
        levels = (int(20_000 * math.sin(2 * math.pi * 440 * n / rate)) for n in range(int(seconds * rate)))
        sound.writeframes(b"".join(struct.pack("<h", level) for level in levels))
    return file


if __name__ == "__main__":
    main()

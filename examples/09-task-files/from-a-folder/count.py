"""Counts the words of a file; knows nothing of Taskloom."""

import sys
from collections import Counter
from pathlib import Path

words = Counter(Path(sys.argv[1]).read_text().lower().split())
for word, count in words.most_common(3):
    print(f"{count} {word}")

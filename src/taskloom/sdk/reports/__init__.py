"""What a script says about itself: scalars, text, plots, debug samples. `logger` is what users hold; the rest makes
figures and files of what they give it.
"""

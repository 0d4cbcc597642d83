"""One framework a file: what of it is hooked, for which versions, and what is told when it is called.

A file is loaded when its framework is imported, and never imports another one here; what they may use is in
`binding`. Which module's import loads which file stands in `frameworks`.
"""

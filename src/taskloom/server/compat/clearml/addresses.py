"""The addresses that ClearML's clients are told: of files that they stored, and of bytes that have no path.

Addresses of our files are told with the origin by which the asker came: one server is reached by several names,
and a client sends its token only to the host it knows. All other addresses are told as they were given.
"""

from __future__ import annotations

from taskloom.domain.artifact import Artifact, Model, Sample
from taskloom.server.artifacts.paths import blob_url, path_of, url_of

__all__ = ["artifact_url", "named_url", "path_of", "url_of"]


def artifact_url(origin: str, artifact: Artifact | Model) -> str:
    return named_url(origin, artifact.uri, artifact.digest, artifact.filename)


def sample_url(origin: str, sample: Sample) -> str:
    return named_url(origin, sample.uri, sample.digest, sample.name)


def named_url(origin: str, uri: str, digest: str, filename: str) -> str:
    """Where something is: at the address it was given, else where its bytes are; empty when nowhere."""
    if not uri:
        return blob_url(origin, digest, filename) if digest else ""
    path = path_of(uri) if digest else None
    return uri if path is None else url_of(origin, path)

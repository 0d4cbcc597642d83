"""The vault: what encrypts secrets, and the file that holds its keys.

A key a line; the first encrypts, all of them decrypt, which is how a key is changed without a moment in which
something cannot be read. The file is made when the first secret is set, with a key made at random: no two
houses share one. It lies beside the database and not in it, so that a copy of the database tells nothing. A
value is bound to the id of its row: moved into another row it cannot be read. The library is loaded only when a
secret is met: a server without any stays as small as it was.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

from taskloom.domain.errors import ServerFault

KEYS_FILE = "secrets.key"


class Vault:
    """Safe between threads."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._opened: Any = None

    def seal(self, row: str, value: str) -> bytes:
        """The encrypted value, for the row of this id."""
        return bytes(self._fernet(make=True).encrypt(f"{row}:{value}".encode()))

    def open(self, row: str, sealed: bytes) -> str:
        """The value; ServerFault when no key of the file fits, or it was sealed for another row."""
        from cryptography.fernet import InvalidToken

        try:
            bound, _, value = bytes(self._fernet().decrypt(sealed)).decode().partition(":")
        except InvalidToken:
            bound, value = "", ""
        if bound != row:
            raise ServerFault(
                f"a secret cannot be decrypted: {self._file.name} in the server's folder does not hold the key that it "
                "was encrypted with. Put that file back, or set the secret again"
            )
        return value

    def add_key(self) -> None:
        """A fresh key before the others: what is sealed from now on needs it."""
        with self._lock:
            self._write([_fresh_key(), *self._keys()])

    def forget_older_keys(self) -> None:
        """Only the first key stays; call it when nothing is sealed with another one any more."""
        with self._lock:
            self._write(self._keys()[:1])

    def _fernet(self, *, make: bool = False) -> Any:
        from cryptography.fernet import Fernet, MultiFernet

        with self._lock:
            if self._opened is None:
                keys = self._keys()
                if not keys and make:
                    keys = [_fresh_key()]
                    self._write(keys)
                if not keys:
                    raise ServerFault(
                        f"{self._file.name}, which holds the key of the secrets, is not there any more"
                    )
                try:
                    self._opened = MultiFernet([Fernet(key) for key in keys])
                except ValueError:
                    raise ServerFault(f"{self._file.name}: expected a key of Fernet on each line") from None
            return self._opened

    def _keys(self) -> list[str]:
        try:
            return self._file.read_text(encoding="ascii").split()
        except FileNotFoundError:
            return []
        except UnicodeDecodeError:
            raise ServerFault(f"{self._file.name}: expected a key of Fernet on each line") from None

    def _write(self, keys: list[str]) -> None:
        """The old file or the new one, on the disk before anything is sealed with it."""
        fresh = self._file.with_name(f"{self._file.name}.tmp")
        fresh.unlink(missing_ok=True)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write("".join(f"{key}\n" for key in keys))
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._file)
        folder = os.open(self._file.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        os.fsync(folder)
        os.close(folder)
        self._opened = None


def _fresh_key() -> str:
    from cryptography.fernet import Fernet

    return Fernet.generate_key().decode("ascii")

"""The console, captured from real scripts: under a pipe, a file and a terminal; killed, forking, and noisy."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

HEAD = """
import os, sys, subprocess, signal, time, threading
from pathlib import Path
from taskloom.sdk.capture.console import ConsoleTee
tee = ConsoleTee(Path({folder!r}), True, True)
tee.start()
"""
PATIENCE = 30.0


class Scripts:
    """Runs scripts whose console is captured into `folder`."""

    def __init__(self, base: Path) -> None:
        self.folder = base / "journal"
        self.folder.mkdir()
        self.base = base

    def command(self, body: str) -> list[str]:
        return [sys.executable, "-c", HEAD.format(folder=str(self.folder)) + body]

    def run(self, body: str, code: int = 0) -> tuple[bytes, bytes]:
        """What the caller of the script sees, under pipes."""
        done = subprocess.run(self.command(body), capture_output=True, timeout=PATIENCE * 2, check=False)
        assert done.returncode == code, done.stderr.decode()
        return done.stdout, done.stderr

    def run_in_terminal(self, body: str) -> bytes:
        """What the terminal shows; both streams end there."""
        pid, terminal = pty.fork()
        if pid == 0:
            os.execv(sys.executable, self.command(body))
        shown = b""
        try:
            while select.select([terminal], [], [], PATIENCE)[0]:
                piece = os.read(terminal, 65536)
                if not piece:
                    break
                shown += piece
        except OSError:
            pass  # how a terminal says that nobody is left
        os.waitpid(pid, 0)
        os.close(terminal)
        return shown

    def captured(self, stream: str = "stdout") -> bytes:
        path = self.folder / stream
        return path.read_bytes() if path.exists() else b""

    def settled(self, stream: str, size: int) -> bytes:
        """The file once it holds `size` bytes: after a kill tee may still be writing."""
        end = time.monotonic() + PATIENCE
        while len(self.captured(stream)) < size and time.monotonic() < end:
            time.sleep(0.01)
        return self.captured(stream)

    def gone(self) -> bool:
        """Whether no process still has one of the files open, within a while."""
        end = time.monotonic() + PATIENCE
        while tees(self.folder) and time.monotonic() < end:
            time.sleep(0.02)
        return not tees(self.folder)


def tees(folder: Path) -> list[psutil.Process]:
    found: list[psutil.Process] = []
    for process in psutil.process_iter(["cmdline"]):
        words: list[str] = process.info["cmdline"] or []
        if words[:1] and words[0].endswith("tee") and any(word.startswith(str(folder)) for word in words):
            found.append(process)
    return found


@pytest.fixture
def scripts(tmp_path: Path) -> Scripts:
    return Scripts(tmp_path)


def test_both_streams_are_copied_byte_for_byte(scripts: Scripts):
    body = "print('größe'); print('oops', file=sys.stderr); sys.stdout.buffer.write(b'\\xff\\x00\\n'); tee.stop()"
    out, err = scripts.run(body)
    assert (out, err) == ("größe\n".encode() + b"\xff\x00\n", b"oops\n")
    assert (scripts.captured(), scripts.captured("stderr")) == (out, err)
    assert scripts.gone()


def test_what_comes_after_stop_is_not_captured(scripts: Scripts):
    out, _ = scripts.run("print('in'); tee.stop(); print('out')")
    assert out == b"in\nout\n"
    assert scripts.captured() == b"in\n"


def test_children_and_c_code_are_captured(scripts: Scripts):
    body = """
print('python')
os.write(1, b'descriptor\\n')
subprocess.run(['sh', '-c', 'echo child; echo complaint >&2'])
if os.fork() == 0:
    print('forked'); sys.stdout.flush()
    tee.stop()
    os._exit(0)
os.wait()
tee.stop()
"""
    out, err = scripts.run(body)
    assert out == b"python\ndescriptor\nchild\nforked\n"
    assert (scripts.captured(), scripts.captured("stderr")) == (out, err)


def test_a_script_that_is_killed_loses_nothing_that_it_printed(scripts: Scripts):
    body = "\nfor n in range(20000): print('line', n)\nos.kill(os.getpid(), signal.SIGKILL)"
    expected = b"".join(b"line %d\n" % n for n in range(20_000))
    scripts.run(body, code=-signal.SIGKILL)
    assert scripts.settled("stdout", len(expected)) == expected
    assert scripts.gone()


def test_a_script_killed_in_a_terminal_loses_nothing_that_it_printed(scripts: Scripts):
    body = "\nfor n in range(20000): print('line', n)\nos.kill(os.getpid(), signal.SIGKILL)"
    expected = b"".join(b"line %d\n" % n for n in range(20_000))
    scripts.run_in_terminal(body)
    assert scripts.settled("stdout", len(expected)) == expected
    assert scripts.gone()


def test_in_a_terminal_the_script_still_has_one_of_the_same_size(scripts: Scripts):
    body = """
print(sys.stdout.isatty(), os.isatty(2), tuple(os.get_terminal_size(1)))
subprocess.run([sys.executable, '-c', 'import os; print(os.isatty(1), tuple(os.get_terminal_size(1)))'])
print('red \\x1b[31m and tab\\t')
tee.stop()
"""
    shown = scripts.run_in_terminal(body)
    lines = scripts.captured().splitlines()
    assert lines[0].startswith(b"True True") and lines[1].startswith(b"True")
    assert lines[0].split(b"(")[1] == lines[1].split(b"(")[1]
    assert shown == scripts.captured().replace(b"\n", b"\r\n")


def test_a_resized_window_reaches_the_script(scripts: Scripts):
    body = """
import fcntl, termios, struct
fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack('HHHH', 33, 77, 0, 0))
os.kill(os.getpid(), signal.SIGWINCH)
for _ in range(1000):
    if tuple(os.get_terminal_size(1)) == (77, 33): break
    time.sleep(0.01)
print(tuple(os.get_terminal_size(1)))
tee.stop()
assert signal.getsignal(signal.SIGWINCH) == signal.SIG_DFL
"""
    scripts.run_in_terminal(body)
    assert scripts.captured() == b"(77, 33)\n"


def test_a_handler_of_the_script_for_its_window_stays(tmp_path: Path):
    scripts = Scripts(tmp_path)
    mine = "import signal\ndef mine(*_): pass\nsignal.signal(signal.SIGWINCH, mine)\n"
    body = "tee.stop(); print(signal.getsignal(signal.SIGWINCH) is mine)"
    code = mine + HEAD.format(folder=str(scripts.folder)) + body
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-c", code])
    shown = b""
    while not shown.endswith(b"\n"):
        shown += os.read(terminal, 1000)
    os.waitpid(pid, 0)
    os.close(terminal)
    assert shown == b"True\r\n"


@pytest.mark.parametrize("writer", ["print('x' * 4095)", "os.write(1, b'x' * 4095 + b'\\n')"])
def test_fifty_megabytes_pass_through(scripts: Scripts, writer: str):
    count = 50 * 256
    target = scripts.base / "out"
    with target.open("wb") as file:
        command = scripts.command(f"\nfor _ in range({count}): {writer}\ntee.stop(60)")
        subprocess.run(command, stdout=file, timeout=PATIENCE * 4, check=True)
    assert target.stat().st_size == count * 4096
    assert (scripts.folder / "stdout").stat().st_size == count * 4096


def test_a_script_that_holds_the_interpreter_can_still_print_more_than_a_pipe_holds(scripts: Scripts):
    body = """
import ctypes
libc = ctypes.PyDLL(None)  # keeps the interpreter's lock during the call
data = b'y' * (4 << 20)
sent = 0
while sent < len(data):
    sent += libc.write(1, data[sent:], len(data) - sent)
tee.stop(60)
"""
    out, _ = scripts.run(body)
    assert len(out) == 4 << 20
    assert scripts.captured() == out


def test_when_tee_dies_the_script_goes_on_and_its_output_goes_where_it_went(scripts: Scripts):
    body = """
import psutil
print('before'); sys.stdout.flush()
folder = str(tee._folder)
old = os.fstat(1).st_ino
while not (Path(folder) / 'stdout').exists() or not (Path(folder) / 'stdout').read_bytes(): time.sleep(0.01)
for process in psutil.process_iter(['cmdline']):
    words = process.info['cmdline'] or []
    if words[:1] and words[0].endswith('tee') and any(word.startswith(folder) for word in words):
        process.kill()
while os.fstat(1).st_ino == old: time.sleep(0.01)
for n in range(100000): print('after', n)
tee.stop()
"""
    out, _ = scripts.run(body)
    assert out == b"before\n" + b"".join(b"after %d\n" % n for n in range(100_000))


def test_a_reader_that_goes_away_does_not_end_the_script_or_the_capture(scripts: Scripts):
    body = "\nfor n in range(50000): print('line', n)\ntee.stop(); (Path(tee._folder) / 'end').touch()"
    process = subprocess.Popen(scripts.command(body), stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(PATIENCE) == 0
    assert scripts.captured().endswith(b"line 49999\n")
    assert (scripts.folder / "end").exists()


def test_a_closed_descriptor_is_left_alone(scripts: Scripts):
    command = [
        "sh",
        "-c",
        'exec "$@" >&-',
        "sh",
        *scripts.command("print('lost'); os.write(2, b'seen'); tee.stop()"),
    ]
    done = subprocess.run(command, capture_output=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0
    assert (scripts.captured("stdout"), scripts.captured("stderr")) == (b"", b"seen")


def test_replaced_python_streams_do_no_harm(scripts: Scripts):
    code = (
        """
import io, sys
real = sys.stdout
sys.stdout, sys.stderr = io.StringIO(), None
"""
        + HEAD.format(folder=str(scripts.folder))
        + """
print('swallowed')
os.write(1, b'written\\n')
tee.stop()
assert sys.stdout.getvalue() == 'swallowed\\n'
"""
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=PATIENCE, check=True)
    assert done.stdout == b"written\n"
    assert scripts.captured() == b"written\n"


def test_a_child_that_outlives_the_script_is_captured_to_its_end(scripts: Scripts):
    body = "\nsubprocess.Popen(['sh', '-c', 'sleep 1; echo late'])\nprint('early')\ntee.stop(0.1)\nprint('after')"
    out, _ = scripts.run(body)
    assert sorted(out.splitlines()) == [b"after", b"early", b"late"]
    assert scripts.settled("stdout", 11) == b"early\nlate\n"
    assert scripts.gone()


def test_the_scripts_own_wait_meets_no_stranger(scripts: Scripts):
    body = """
time.sleep(0.5)
try:
    os.wait()
except ChildProcessError:
    print('no children')
tee.stop()
"""
    assert scripts.run(body)[0] == b"no children\n"


def test_ctrl_c_reaches_the_script_and_not_the_capture(scripts: Scripts):
    body = """
try:
    print('ready'); sys.stdout.flush()
    time.sleep(60)
except KeyboardInterrupt:
    print('interrupted')
    tee.stop()
"""
    process = subprocess.Popen(scripts.command(body), stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    os.killpg(process.pid, signal.SIGINT)
    assert process.communicate(timeout=PATIENCE)[0] == b"interrupted\n"
    assert scripts.captured() == b"ready\ninterrupted\n"


def test_a_descriptor_that_the_script_replaced_is_left_to_it(scripts: Scripts):
    body = """
mine = os.open(str(Path(tee._folder) / 'mine'), os.O_WRONLY | os.O_CREAT)
os.dup2(mine, 1)
tee.stop()
os.write(1, b'mine')
"""
    assert scripts.run(body)[0] == b""
    assert (scripts.folder / "mine").read_bytes() == b"mine"


def test_only_one_stream_can_be_captured(tmp_path: Path):
    scripts = Scripts(tmp_path)
    code = HEAD.replace("True, True", "False, True").format(folder=str(scripts.folder))
    code += "print('a'); print('b', file=sys.stderr); tee.stop()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=PATIENCE, check=True)
    assert (done.stdout, done.stderr) == (b"a\n", b"b\n")
    assert (scripts.captured(), scripts.captured("stderr")) == (b"", b"b\n")


def test_without_a_tee_command_the_script_just_runs(scripts: Scripts):
    done = subprocess.run(
        scripts.command("print('fine'); tee.stop()"),
        env={**os.environ, "PATH": "/nowhere"},
        capture_output=True,
        timeout=PATIENCE,
        check=True,
    )
    assert done.stdout == b"fine\n"
    assert b"not captured" in done.stderr


def test_a_full_disk_leaves_the_script_alone(scripts: Scripts):
    (scripts.folder / "stdout").symlink_to("/dev/full")
    assert scripts.run("\nfor n in range(10000): print(n)\ntee.stop()")[0].endswith(b"9999\n")

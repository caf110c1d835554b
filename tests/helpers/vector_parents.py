"""Programs that hold vectors of their own, started by the tests, and what they leave behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
import uuid
from pathlib import Path

from vector_leaks import new_names

HERE = Path(__file__).parent
TAG = "KITAE_TEST_TAG"


class Program:
    """Python in a process group of its own; an environment variable tags its processes."""

    def __init__(self, *arguments: str | Path, stdin: str = "") -> None:
        self.tag = uuid.uuid4().hex
        self.shm = set(os.listdir("/dev/shm"))
        self.popen = subprocess.Popen(
            [sys.executable, *arguments],
            env={**os.environ, TAG: self.tag, "PYTHONPATH": python_path()},
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        assert self.popen.stdin is not None
        self.popen.stdin.write(stdin)
        self.popen.stdin.close()
        self.popen.stdin = None

    def wait_ready(self) -> None:
        """Wait until the situation is reached."""
        assert self.popen.stdout is not None
        line = self.popen.stdout.readline()
        assert line == "READY\n", line + (self.popen.stderr.read() if self.popen.stderr else "")

    def end(self, timeout: float) -> tuple[str, float]:
        """Wait for the program's end; return what it wrote to stderr and the seconds it took."""
        start = time.monotonic()
        stderr = self.popen.communicate(timeout=timeout)[1]
        return stderr, time.monotonic() - start

    def assert_nothing_left(self) -> None:
        """Assert that within two seconds no process of ours is left, and no name."""
        deadline = time.monotonic() + 2.0
        while (left := tagged(self.tag)) and time.monotonic() < deadline:
            time.sleep(0.02)
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        assert not left
        assert not new_names(self.shm)


def python_path() -> str:
    """Where programs find the modules of these tests."""
    return os.pathsep.join(filter(None, (str(HERE), os.environ.get("PYTHONPATH"))))


def tagged(tag: str) -> list[int]:
    """Find processes by the tag in their environment."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                environment = (entry / "environ").read_bytes()
            except OSError:
                continue
            if f"{TAG}={tag}".encode() in environment:
                found.append(int(entry.name))
    return found


def run_script(code: str, *, stdin: bool = False) -> subprocess.CompletedProcess[str]:
    """Run a script from standard input or as an argument."""
    code = textwrap.dedent(code)
    return subprocess.run(
        [sys.executable, "-"] if stdin else [sys.executable, "-c", code],
        input=code if stdin else None,
        env={**os.environ, "PYTHONPATH": python_path()},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

"""What a VM gets from this machine over HTTP: a repository, a container image, a wheel of the checkout."""

from __future__ import annotations

import shutil
import sys
import tarfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.vm.machine import FROM_THE_VM, run

ROOT = Path(__file__).parents[2]
STATIC_PROGRAM = Path("/sbin/ldconfig")
"""A program that needs no library, so that it is a whole container image."""
BUSYBOX = Path("/bin/busybox")
"""Debian's busybox-static; only where it is installed, for containers that use the network."""


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


class Offers:
    """Serves a directory; ``address`` is as the VM sees it.

    Args:
        directory: an empty one.
        host: this machine's address to listen at.
        seen_as: the same, as seen from the VM.
    """

    def __init__(self, directory: Path, host: str = "127.0.0.1", seen_as: str = FROM_THE_VM) -> None:
        self._directory = directory
        handler = partial(_Quiet, directory=str(directory))
        self._server = ThreadingHTTPServer((host, 0), handler)
        self.address = f"http://{seen_as}:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def repository(self) -> str:
        """The address of a repository with the toy workflow, and one that needs a container."""
        clone, bare = self._directory / "clone", self._directory / "everything.git"
        shutil.copytree(ROOT / "examples" / "toyworkflow", clone)
        for file in (ROOT / "tests" / "vm" / "workflow").iterdir():
            text = file.read_text().replace("@ADDRESS@", self.address)
            (clone / file.name.removesuffix(".in")).write_text(text)
        with tarfile.open(self._directory / "container.tar", "w") as tar:
            tar.add(STATIC_PROGRAM.resolve(), "program")
            if BUSYBOX.exists():
                tar.add(BUSYBOX, "busybox")
        git = ("git", "-C", str(clone), "-c", "user.name=try", "-c", "user.email=try@localhost")
        run(*git, "init", "-q")
        run(*git, "add", ".")
        run(*git, "commit", "-q", "-m", "everything")
        run("git", "clone", "-q", "--bare", str(clone), str(bare))
        run("git", "-C", str(bare), "update-server-info")
        return f"{self.address}/{bare.name}"

    def wheel(self) -> str:
        """The address of a wheel of this checkout."""
        source = self._directory / "source"
        source.mkdir()
        for name in ("setup.py", "pyproject.toml", "README.md"):
            shutil.copy(ROOT / name, source)
        for name in ("lando", "worker"):
            shutil.copytree(ROOT / name, source / name)
        pip = (sys.executable, "-m", "pip", "wheel", "-q", "--no-deps")
        run(*pip, "-w", str(self._directory), str(source))
        (wheel,) = self._directory.glob("*.whl")
        return f"{self.address}/{wheel.name}"

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()

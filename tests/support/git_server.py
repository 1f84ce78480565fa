"""Real git servers on loopback: git http-backend behind Python's HTTP server."""

import base64
import os
import ssl
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

IDENTITY = ("-c", "user.name=Test", "-c", "user.email=test@example.org")


def git(*arguments, at):
    """Run git, and return what it prints."""
    command = ["git", *IDENTITY, "-c", "protocol.file.allow=always", *arguments]
    return subprocess.run(command, cwd=at, check=True, capture_output=True, text=True).stdout.strip()


def repository(path, files):
    """Make a repository with one commit. Returns its id."""
    path.mkdir(parents=True)
    git("init", "--quiet", "--initial-branch=main", at=path)
    return commit(path, files)


def commit(path, files):
    """Commit files, by their names. Returns the id."""
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(content)
    git("add", "--all", at=path)
    git("commit", "--quiet", "--allow-empty", "--message=x", at=path)
    return git("rev-parse", "HEAD", at=path)


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self._answer(b"")

    def do_POST(self):
        self._answer(self.rfile.read(int(self.headers.get("Content-Length") or 0)))

    def _answer(self, body):
        server = self.server.git
        server.requests.append(self.path)
        server.logins.append(self.headers.get("Authorization"))
        if server.failures:
            server.failures -= 1
            self.send_error(server.failure)
        elif server.redirects_to:
            self._send(301, {"Location": server.redirects_to + ("" if server.drops_path else self.path)})
        elif server.login and self.headers.get("Authorization") != server.login:
            self._send(401, {"WWW-Authenticate": 'Basic realm="x"'})
        else:
            self._backend(body)

    def _backend(self, body):
        path, _, query = self.path.partition("?")
        environment = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": str(self.server.git.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            # The repositories may be of another account than the one that runs the tests.
            "HOME": "/nonexistent",
        }
        done = subprocess.run(
            ["git", "http-backend"], input=body, env=environment, capture_output=True, check=False
        )
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().splitlines())
        self._send(int(headers.pop("Status", "200").split()[0]), headers, content)

    def _send(self, status, headers, content=b""):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format, *arguments):
        pass


class GitServer:
    """Serves the repositories below a directory, over HTTP.

    Args:
        root: the directory.
        login: (user, password) that is needed; None if everybody may read.
        tls: files of a certificate and its key; None for HTTP.
    """

    def __init__(self, root, login=None, tls=None):
        self.root = root
        self.login = login and "Basic " + base64.b64encode(":".join(login).encode()).decode()
        self.failures = 0
        self.failure = 503
        self.redirects_to = None
        self.drops_path = False
        self.requests = []
        self.logins = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.git = self
        self.address = f"http{'s' if tls else ''}://127.0.0.1:{self._server.server_port}"
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def stop(self):
        """From now on connections are refused."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

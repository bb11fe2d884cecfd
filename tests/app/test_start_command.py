"""`maet app` on a machine where nobody has used Streamlit before: it starts, and asks for nothing."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request


def test_it_starts_for_a_newcomer_without_asking(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    home = tmp_path / "home"
    (home / ".claude").mkdir(parents=True)  # with such a folder Streamlit advertises itself
    command = [sys.executable, "-m", "maet_core", "app", "--port", str(port), "--workspace", str(tmp_path / "work")]
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env={**os.environ, "HOME": str(home), "BROWSER": "true"},
        )
    try:
        until, answer = time.monotonic() + 90, b""
        while server.poll() is None and time.monotonic() < until and answer != b"ok":
            time.sleep(0.2)
            try:
                answer = urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=5).read()
            except OSError:
                continue
        said = (tmp_path / "log").read_text()
        assert server.poll() is None, said
        assert answer == b"ok", said
        assert "mail" not in said
        assert f"MAET Studio: http://127.0.0.1:{port}, in {tmp_path / 'work'}; Ctrl-C ends it" in said
        assert "Streamlit" not in said
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()

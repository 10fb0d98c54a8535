"""What the other tests rely on: empty folders, no network, in the programs that they start too."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from spikegate.data.known import debian_fashion, downloads
from tests import isolation
from tests.foreign_import import ENV

AWAY = ("192.0.2.1", 80)  # an address that documents use, nobody's
CALL = "import socket; socket.create_connection({}, 1)"


def test_no_socket_leads_away():
    with pytest.raises(OSError, match=r"without a network.*192\.0\.2\.1"):
        socket.create_connection(AWAY, 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s, pytest.raises(OSError, match="without a network"):
        s.sendto(b"", AWAY)
    with pytest.raises(OSError, match="without a network"):
        socket.getaddrinfo("example.org", 80)


def test_sockets_of_this_machine_work():
    with socket.create_server(("127.0.0.1", 0)) as server:
        answers: list[bytes] = []
        there = threading.Thread(target=lambda: answers.append(server.accept()[0].recv(2)))
        there.start()
        with socket.create_connection(("localhost", server.getsockname()[1]), 5) as s:
            s.sendall(b"ok")
        there.join(5)
    assert answers == [b"ok"]
    a, b = socket.socketpair()
    a.sendall(b"ok")
    assert b.recv(2) == b"ok"
    a.close()
    b.close()


@pytest.mark.parametrize("env", [None, ENV], ids=["as it is", "with the repository on the path"])
def test_programs_that_tests_start_have_no_network_either(env):
    done = subprocess.run([sys.executable, "-c", CALL.format(AWAY)], capture_output=True, text=True, env=env)
    assert done.returncode == 1 and "without a network" in done.stderr


def test_folders_of_the_user_and_the_system_are_empty():
    assert Path.home() == Path(os.environ["HOME"]) and not (Path.home() / ".cache/uv").exists()
    for folder in (downloads(), debian_fashion().parent):
        assert folder.is_relative_to(Path.home()) and not folder.exists()


def test_what_was_before_can_be_had_for_an_installation():
    env = isolation.outside()
    assert env.get("HOME") != os.environ["HOME"] and "offline" not in env.get("PYTHONPATH", "") and isolation.KEPT not in env

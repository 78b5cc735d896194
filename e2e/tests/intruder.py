"""Connects to a tunnel as the kernel would: as root, and with a socket that no table of descriptors shows.

    intruder.py held|unix|io_uring|thread|cgroup ADDRESS PORT

Says "hidden" once it is so, and goes on until its standard input ends.
"""

import ctypes
import os
import socket
import sys
import threading

IO_URING_SETUP, IO_URING_REGISTER, EXIT = 425, 427, 60
IORING_REGISTER_FILES = 2
CGROUP = "/sys/fs/cgroup/alinas-csi-intruder"

libc = ctypes.CDLL(None, use_errno=True)


def hide_in_unix(connection):
    """On its way through a Unix socket that nobody reads."""
    ours, theirs = socket.socketpair()
    socket.send_fds(ours, [b"x"], [connection.fileno()])
    connection.close()
    return ours, theirs


def hide_in_ring(connection):
    """A registered file of an io_uring."""
    ring = libc.syscall(IO_URING_SETUP, 4, ctypes.create_string_buffer(120))
    files = (ctypes.c_int * 1)(connection.fileno())
    if ring < 0 or libc.syscall(IO_URING_REGISTER, ring, IORING_REGISTER_FILES, files, 1) < 0:
        raise OSError(ctypes.get_errno(), "io_uring")
    connection.close()
    return ring


def enter_cgroup(folder):
    with open(os.path.join(folder, "cgroup.procs"), "w") as processes:
        processes.write("0")


def main(how, address, port):
    if how == "cgroup":
        os.makedirs(CGROUP, exist_ok=True)
        enter_cgroup(CGROUP)
    connection = socket.create_connection((address, int(port)))
    if how == "cgroup":
        # The socket keeps the cgroup that it was made in.
        enter_cgroup(os.path.dirname(CGROUP))
        os.rmdir(CGROUP)
    hidden = {"unix": hide_in_unix, "io_uring": hide_in_ring}.get(how, lambda held: held)(connection)
    print("hidden", flush=True)
    sys.stdin.read()
    return hidden


if __name__ == "__main__":
    if sys.argv[1] == "thread":
        threading.Thread(target=main, args=sys.argv[1:]).start()
        # The first thread alone: what the process has open is to be seen at the other one only.
        libc.syscall(EXIT, 0)
    main(*sys.argv[1:])

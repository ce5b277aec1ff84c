"""Takes audit records in the journal's place: python tests/bench/audit_sink.py SOCKET COUNT_FILE

Writes how many came into COUNT_FILE (8 bytes, little-endian) as it goes. Ends with SIGTERM.
"""

import mmap
import socket
import sys

with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sink, open(sys.argv[2], "w+b") as file:
    file.truncate(8)
    file.flush()
    count, seen = mmap.mmap(file.fileno(), 8), 0
    sink.bind(sys.argv[1])
    buffer = bytearray(1 << 16)
    while True:
        sink.recv_into(buffer)
        seen += 1
        count[:] = seen.to_bytes(8, "little")

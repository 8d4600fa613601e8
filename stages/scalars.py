"""TensorBoard event files of scalars, without TensorFlow, torch or protobuf, whose import takes a second.

Format: records of the TFRecord file (length, its checksum, data, its checksum; tensorflow/core/lib/io/record_writer.h)
that hold an Event message each (tensorflow/core/util/event.proto): wall time, step, and a Summary of one value.
"""

import os
import socket
import struct
import time
from functools import cache
from pathlib import Path

# Castagnoli's polynomial, reversed.
_POLYNOMIAL = 0x82F63B78
# Added to a rotated checksum, so that a checksum of data with checksums in it does not come out as zero.
_MASK = 0xA282EAD8
# Keys of protobuf fields: number and wire type.
_WALL_TIME, _STEP, _FILE_VERSION, _SUMMARY = b"\x09", b"\x10", b"\x1a", b"\x2a"
_VALUE, _TAG, _SIMPLE_VALUE = b"\x0a", b"\x0a", b"\x15"


class ScalarWriter:
    """Writes one event file. Use as a context manager; what was written before is on disk at its end."""

    def __init__(self, folder: Path) -> None:
        """Makes a new file in a folder, which is made if need be."""
        folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{time.time_ns()}.{socket.gethostname()}.{os.getpid()}"
        self._file = (folder / name).open("wb")
        self._record(_event(_FILE_VERSION, b"brain.Event:2"))

    def __enter__(self) -> "ScalarWriter":
        return self

    def __exit__(self, *_error: object) -> None:
        self._file.close()

    def add_scalar(self, tag: str, value: float, step: int) -> None:
        """Adds one point of a curve.

        Args:
            tag: the curve's name.
            value: float32 in the file.
            step: where on the curve, not negative.
        """
        point = _field(_TAG, tag.encode()) + _SIMPLE_VALUE + struct.pack("<f", value)
        self._record(_event(_SUMMARY, _field(_VALUE, point), step))

    def _record(self, data: bytes) -> None:
        length = struct.pack("<Q", len(data))
        self._file.write(length + _checksum(length) + data + _checksum(data))


def _event(key: bytes, content: bytes, step: int = 0) -> bytes:
    return _WALL_TIME + struct.pack("<d", time.time()) + _STEP + _varint(step) + _field(key, content)


def _field(key: bytes, content: bytes) -> bytes:
    return key + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _checksum(data: bytes) -> bytes:
    """Masked CRC-32C, little-endian."""
    table, crc = _table(), 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", ((crc >> 15 | crc << 17) + _MASK) & 0xFFFFFFFF)


@cache
def _table() -> tuple[int, ...]:
    values = list(range(256))
    for _ in range(8):
        values = [value >> 1 ^ (_POLYNOMIAL if value & 1 else 0) for value in values]
    return tuple(values)

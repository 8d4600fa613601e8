"""Binary files that were copied as text: every line feed got a carriage return, and a pickle no longer loads.

Windows programs in text mode do this, FTP in ASCII mode, and git with core.autocrlf to pickles of protocol 0, which
look like text (FLAME_masks.pkl is one). The change put one byte before every line feed, so taking it away again is
exact. The other way round, carriage returns lost from a binary file, cannot be undone.
"""

_LF, _CRLF = b"\n", b"\r\n"
# What lies in place of a file that was never fetched.
_LFS_POINTER = b"version https://git-lfs"
_PAGE_STARTS = (b"<!doctype html", b"<html")


def was_copied_as_text(data: bytes) -> bool:
    """Whether every line feed of a file follows a carriage return, and there is one."""
    return _CRLF in data and data.count(_LF) == data.count(_CRLF)


def repaired(data: bytes) -> bytes:
    """The bytes before the copy, for a file of which `was_copied_as_text` is true."""
    return data.replace(_CRLF, _LF)


def placeholder(data: bytes) -> str | None:
    """What a file is that stands in for another one: a Git LFS pointer, a web page, nothing; None for anything else."""
    start = data[:64].lstrip().lower()
    if not data:
        return "it is empty"
    if start.startswith(_LFS_POINTER):
        return "it is a Git LFS pointer, not the file; run `git lfs pull` where it came from"
    if start.startswith(_PAGE_STARTS):
        return "it is a web page, as a download without login gives"
    return None

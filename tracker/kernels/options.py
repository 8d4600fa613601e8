"""How the kernels are compiled, and when their compiled code is of no use any more."""

import hashlib
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from tracker.atomic_write import write_bytes

# Sums may be reordered and fused; numbers that are not finite stay what they are, so that a failed solve is seen.
FAST = {"reassoc", "contract", "nsz", "arcp"}
# All sources of this package.
KERNELS = tuple(sorted(Path(__file__).parent.glob("*.py")))


def renew(kernel: Any, sources: Iterable[Path]) -> None:
    """Drops the compiled code of a kernel's module if sources of what it calls are others than those it was made from.

    Numba puts what a kernel calls into the kernel's own code, and asks of the code that it keeps only whether the
    kernel's own file is the same. Call it at the end of a module whose kernels call others.

    Args:
        kernel: one of the module's.
        sources: files of all that its kernels call.
    """
    digest = hashlib.blake2b(b"\0".join(path.read_bytes() for path in sources), digest_size=16).hexdigest()
    folder, module = Path(kernel.stats.cache_path), Path(kernel.py_func.__code__.co_filename).stem
    note = folder / f"{module}.sources"
    # Where nothing can be written, nothing is kept either.
    with suppress(OSError):
        if not note.exists() or note.read_text() != digest:
            for index in folder.glob(f"{module}.*.nbi"):
                index.unlink(missing_ok=True)
            write_bytes(note, digest.encode())

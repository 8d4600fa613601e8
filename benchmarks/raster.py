"""Times the rasteriser on a head that fills a 512 x 512 picture: `python -m benchmarks.raster [head.npz]`.

Prints the median and interquartile range over 50 runs after 5 to warm up, and the machine.
"""

import platform
import sys
import time
from pathlib import Path

import numpy as np

from tracker.camera import Intrinsics
from tracker.rasterizer import rasterize

WARM_UP, RUNS = 5, 50


def sphere(rings: int = 72, sectors: int = 112) -> tuple[np.ndarray, np.ndarray]:
    """A closed stand-in for a head: about 16,000 triangles, radius 0.12 m."""
    theta, phi = np.meshgrid(np.linspace(0, np.pi, rings), np.linspace(0, 2 * np.pi, sectors), indexing="ij")
    vertices = 0.12 * np.stack([np.sin(theta) * np.cos(phi), np.cos(theta), np.sin(theta) * np.sin(phi)], -1).reshape(
        -1, 3
    )
    first = (np.arange(rings - 1)[:, None] * sectors + np.arange(sectors - 1)).ravel()
    quads = np.stack([first, first + 1, first + sectors + 1, first, first + sectors + 1, first + sectors], 1)
    return vertices, quads.reshape(-1, 3)


def head(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and triangles of a head model's neutral."""
    with np.load(path) as arrays:
        return arrays["template"], arrays["triangles"]


def main(arguments: list[str]) -> None:
    """Runs the benchmark and prints one line a case."""
    vertices, triangles = head(Path(arguments[0])) if arguments else sphere()
    turned = vertices * np.array([1, -1, -1]) - (vertices.max(0) + vertices.min(0)) / 2 * np.array([1, -1, -1])
    placed = (turned + np.array([0, 0, 0.8])).astype(np.float32)
    camera = Intrinsics(512 * 0.7 * 0.8 / np.ptp(vertices[:, 1]), 256.0, 256.0)
    print(
        f"{platform.processor() or platform.machine()}, Python {platform.python_version()}, {len(triangles)} triangles"
    )
    for scale in (1, 2):
        for cull in (False, True):
            times_ms = []
            for _ in range(WARM_UP + RUNS):
                start = time.perf_counter()
                fragments = rasterize(
                    placed, triangles, camera.scaled(scale), (512 * scale, 512 * scale), "numba", cull_back=cull
                )
                times_ms.append(1000 * (time.perf_counter() - start))
            low, median, high = np.percentile(times_ms[WARM_UP:], [25, 50, 75])
            size = 512 * scale
            spread = f"IQR {low:.2f} to {high:.2f}, covered {fragments.covered.mean():.0%}"
            print(f"{size} x {size} cull={cull}: median {median:.2f} ms, {spread}")


if __name__ == "__main__":
    main(sys.argv[1:])

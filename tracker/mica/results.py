"""The files that MICA's demo leaves: identity, landmarks and mesh of a head in millimetres, and the pictures it saw."""

import cv2
import numpy as np

from tracker.mica.align import aligned, network_input
from tracker.mica.checkpoint import HeadBuffers
from tracker.npy import array_bytes

IDENTITY_NAME = "identity.npy"
_MILLIMETRES = 1000.0
# Side of the picture beside the network's, pixels; the demo shows it, no network takes it.
_LARGE_PX = 224
_JPEG_QUALITY = 95
# Of the 51 inner iBUG points those that the NoW benchmark aligns by: eye corners, base of the nose, mouth corners.
_INNER = 17
_SEVEN = (19, 22, 25, 28, 16, 31, 37)


def head_files(code: np.ndarray, head: HeadBuffers | None) -> dict[str, bytes]:
    """The files of one person, by name.

    Args:
        code: (300,) shape coefficients.
        head: the head that the checkpoint carries; None leaves all but identity.npy.

    Returns:
        identity.npy (300,) float32; kpt68.npy (1, 68, 3) and kpt7.npy (7, 3) float32 and mesh.obj, mesh.ply, all
        millimetres in FLAME's head space.
    """
    files = {IDENTITY_NAME: array_bytes(np.asarray(code, np.float32))}
    if head is None:
        return files
    import trimesh

    vertices_m = neutral_vertices(code, head)
    points = landmarks68(vertices_m, head) * np.float32(_MILLIMETRES)
    mesh = trimesh.Trimesh(vertices_m * _MILLIMETRES, head.triangles, process=False)
    return {
        **files,
        "kpt68.npy": array_bytes(points[None]),
        "kpt7.npy": array_bytes(points[_INNER:][list(_SEVEN)]),
        "mesh.obj": trimesh.exchange.obj.export_obj(mesh).encode(),
        "mesh.ply": bytes(trimesh.exchange.ply.export_ply(mesh)),
    }


def picture_files(name: str, image: np.ndarray, five_px: np.ndarray) -> dict[str, bytes]:
    """What the network saw of one picture: NAME.npy (3, 112, 112) float32, and NAME.jpg, 224 x 224.

    Args:
        name: of the picture.
        image: (H, W, 3) uint8 RGB.
        five_px: (5, 2) continuous pixels.

    Raises:
        ValueError: the points coincide.
    """
    large = cv2.cvtColor(aligned(image, five_px, _LARGE_PX), cv2.COLOR_RGB2BGR)
    _, jpeg = cv2.imencode(".jpg", large, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    return {f"{name}.npy": array_bytes(network_input(aligned(image, five_px))), f"{name}.jpg": jpeg.tobytes()}


def neutral_vertices(code: np.ndarray, head: HeadBuffers) -> np.ndarray:
    """The neutral head: (V, 3) float32 metres. At rest neither pose correctives nor skinning move anything."""
    return head.template + head.shape_basis @ np.asarray(code, np.float32)


def landmarks68(vertices_m: np.ndarray, head: HeadBuffers) -> np.ndarray:
    """The iBUG points on a head by FLAME's 'full' embedding: (68, 3) float32."""
    corners = vertices_m[head.triangles[head.landmark_triangles]]
    return np.einsum("nij,ni->nj", corners, head.landmark_weights)

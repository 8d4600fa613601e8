"""Pictures of a posed head: its appearance under a light.

A drawing is rasterised once, at a multiple of the picture's resolution so that edges come out smooth, and can then be
painted several times. Colours are sRGB in [0, 1]; light and normals are those of `tracker.shading`, in head space.
Review frames, which have to be drawn fast, take `tracker.review_kernels` instead.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tracker.camera import Intrinsics
from tracker.head.plain import PlainHead
from tracker.rasterizer import NEAR_M, Fragments, rasterize
from tracker.render_kernels import composite, mesh_normals, paint_texture
from tracker.sh_constants import SH_CONSTANTS

if TYPE_CHECKING:
    from tracker.head.model import HeadModel

# Samples a pixel and axis: silhouettes look smooth.
SUPERSAMPLE = 2


@dataclass(frozen=True, eq=False)
class Surface:
    """What of a head model a renderer needs, as numpy arrays.

    Attributes:
        triangles: (F, 3) int64 vertex ids, counter-clockwise seen from outside.
        uv: (T, 2) float32, v up, in [0, 1].
        uv_triangles: (F, 3) int64 into uv.
    """

    triangles: np.ndarray
    uv: np.ndarray
    uv_triangles: np.ndarray

    @staticmethod
    def of(model: "HeadModel | PlainHead") -> "Surface":
        """The surface of a head model."""
        return Surface(
            _array(model.triangles).astype(np.int64),
            _array(model.uv).astype(np.float32),
            _array(model.uv_triangles).astype(np.int64),
        )


@dataclass(frozen=True, eq=False)
class View:
    """A camera looking at the head.

    Attributes:
        R: (3, 3) head to camera rotation, OpenCV axes.
        t: (3,) metres.
        intrinsics: pixels of the picture.
        size: (height, width) of the picture.
    """

    R: np.ndarray
    t: np.ndarray
    intrinsics: Intrinsics
    size: tuple[int, int]

    def window(self, vertices_head_m: np.ndarray) -> tuple[slice, slice]:
        """Rows and columns of the picture outside of which none of the vertices' triangles is seen; may be empty."""
        # A row a coordinate: numpy's minima across columns take ten times as long.
        x, y, z = self.R @ vertices_head_m.T + self.t[:, None]
        if z.min() <= NEAR_M:
            return slice(0, self.size[0]), slice(0, self.size[1])
        camera = self.intrinsics

        def span(along: np.ndarray, centre_px: float, side: int) -> slice:
            pixels = camera.focal_px * along / z + centre_px
            low, high = np.clip((np.floor(pixels.min()), np.ceil(pixels.max())), 0, side)
            # Nothing of it in the picture, or vertices that are not numbers.
            return slice(int(low), int(high)) if low < high else slice(0, 0)

        return span(y, camera.cy_px, self.size[0]), span(x, camera.cx_px, self.size[1])

    def within(self, window: tuple[slice, slice]) -> "View":
        """The same camera's view of a part of the picture, see `window`."""
        rows, columns = window
        camera = self.intrinsics
        moved = Intrinsics(camera.focal_px, camera.cx_px - columns.start, camera.cy_px - rows.start)
        return View(self.R, self.t, moved, (rows.stop - rows.start, columns.stop - columns.start))


@dataclass(frozen=True, eq=False)
class Layer:
    """A picture with coverage.

    Attributes:
        rgba: (H, W, 4) float32 in [0, 1]: colour times coverage, coverage.
    """

    rgba: np.ndarray

    @property
    def alpha(self) -> np.ndarray:
        """(H, W) float32, covered fraction of each pixel."""
        return self.rgba[..., 3]

    @property
    def rgb(self) -> np.ndarray:
        """(H, W, 3) float32 colour, 0 where nothing is covered."""
        return self.rgba[..., :3] / np.maximum(self.rgba[..., 3:], 1e-6)

    def over(self, background: np.ndarray, opacity: float = 1.0) -> np.ndarray:
        """The layer over an (H, W, 3) float32 picture: (H, W, 3) float32."""
        return composite(self.rgba, np.ascontiguousarray(background, np.float32), float(opacity))


@dataclass(frozen=True, eq=False)
class Selection:
    """What of a head is painted; the rest still hides what lies behind it.

    Attributes:
        triangles: (F,) bool, or None for all.
        opacity: (V,) in [0, 1], or None for opaque.
    """

    triangles: np.ndarray | None = None
    opacity: np.ndarray | None = None


EVERYTHING = Selection()


@dataclass(frozen=True, eq=False)
class Drawing:
    """A rasterised head, ready to be painted.

    Attributes:
        surface: its topology.
        normals_head: (V, 3) float32 unit vertex normals, head space.
        view: the camera.
        fragments: rasterised at `supersample` times the view's resolution.
        supersample: samples a pixel and axis.
    """

    surface: Surface
    normals_head: np.ndarray
    view: View
    fragments: Fragments
    supersample: int


def draw(surface: Surface, vertices_head_m: np.ndarray, view: View, supersample: int = SUPERSAMPLE) -> Drawing:
    """Rasterises a head; triangles seen from behind are left out, so that an open neck or mouth shows what lies behind.

    Args:
        surface: topology.
        vertices_head_m: (V, 3) metres, head space.
        view: the camera.
        supersample: samples a pixel and axis.

    Returns:
        A drawing for `render` and the review frames.
    """
    vertices = np.ascontiguousarray(vertices_head_m, np.float32)
    vertices_cam = (vertices @ view.R.T + view.t).astype(np.float32)
    size = (view.size[0] * supersample, view.size[1] * supersample)
    fragments = rasterize(vertices_cam, surface.triangles, view.intrinsics.scaled(supersample), size, cull_back=True)
    return Drawing(surface, mesh_normals(vertices, surface.triangles), view, fragments, supersample)


def rgba_texture(albedo: np.ndarray, valid: np.ndarray | None = None) -> np.ndarray:
    """A texture for `render`.

    Args:
        albedo: (Th, Tw, 3) sRGB in [0, 1] in UV space, row 0 is v = 1.
        valid: (Th, Tw) weight of each texel in [0, 1], or None for all valid.

    Returns:
        (Th, Tw, 4) float32.
    """
    texture = np.ones((*albedo.shape[:2], 4), np.float32)
    texture[..., :3] = albedo
    if valid is not None:
        texture[..., 3] = valid
    return texture


def render(drawing: Drawing, texture: np.ndarray, sh: np.ndarray, painted: Selection = EVERYTHING) -> Layer:
    """The head in its own colours under a light.

    Args:
        drawing: from `draw`.
        texture: (Th, Tw, 4) float32 from `rgba_texture`.
        sh: (9, 3) light, head space.
        painted: what is painted.

    Returns:
        A layer of the view's size; where the texture is not valid its coverage fades.
    """
    surface, fragments = drawing.surface, drawing.fragments
    rgba = paint_texture(
        (fragments.triangle_index, fragments.bary),
        (surface.triangles, surface.uv_triangles, _mask(painted.triangles, surface)),
        (drawing.normals_head, _values(painted.opacity, drawing), surface.uv),
        texture,
        scaled_light(sh),
        drawing.supersample,
    )
    return Layer(rgba)


def scaled_light(sh: np.ndarray) -> np.ndarray:
    """(9, 3) float32 light, times the constants of its nine functions, as the kernels take it."""
    return (np.asarray(SH_CONSTANTS)[:, None] * np.asarray(sh, np.float64)).astype(np.float32)


def _mask(drawn: np.ndarray | None, surface: Surface) -> np.ndarray:
    return np.ones(len(surface.triangles), np.bool_) if drawn is None else np.ascontiguousarray(drawn, np.bool_)


def _values(values: np.ndarray | None, drawing: Drawing) -> np.ndarray:
    count = len(drawing.normals_head)
    return np.ones(count, np.float32) if values is None else np.ascontiguousarray(values, np.float32)


def _array(values: Any) -> np.ndarray:
    """The numbers of an array, or of a tensor on any device."""
    return np.asarray(values.cpu() if hasattr(values, "cpu") else values)

"""`python -m tracker.head.build.measure` prints the figures of docs/generic_head.md."""

import sys

import numpy as np

from tracker.camera import project
from tracker.detectors.facemesh import FaceMesh
from tracker.head.build.paint import Viewpoint, paint_plain, picture
from tracker.head.generic import load_generic
from tracker.head.model import HeadModel, embed

_YAWS_DEG = (0, 15, -30)


def landmark_errors_mm(model: HeadModel, yaw_deg: float) -> np.ndarray | None:
    """Distance in the picture plane between FaceMesh's points on a rendering and the model's, (478,) mm.

    Returns None where FaceMesh finds no face.
    """
    viewpoint = Viewpoint(yaw_deg, 0, (0.0, -0.01, 0.03), 0.30, 512)
    image = picture(model, paint_plain(model), model.neutral(), viewpoint)
    with FaceMesh(max_faces=1, tracking=False) as detector:
        faces = detector.faces(image)
    if not faces:
        return None
    view = viewpoint.view()
    embedding = model.landmarks478
    points = embed(embedding.faces, embedding.bary, model.triangles, model.template).double()
    points_cam = points @ _tensor(view.R).T + _tensor(view.t)
    camera = view.intrinsics
    projected = project(points_cam, camera.focal_px, camera.cx_px, camera.cy_px).numpy()
    metres_per_px = points_cam[:, 2].numpy() / camera.focal_px
    return 1000 * metres_per_px * np.linalg.norm(faces[0].points_px - projected, axis=1)


def sizes_mm(model: HeadModel) -> dict[str, float]:
    """Anthropometric sizes of the mean head."""
    v = 1000 * model.template.numpy()
    scalp = np.concatenate([model.regions["scalp"].numpy(), model.regions["face"].numpy()])
    joints = 1000 * (model.joint_regressor @ model.template).numpy()
    height = v[scalp, 1].max() - v[152, 1]
    return {
        "inter-pupillary distance": float(joints[3, 0] - joints[4, 0]),
        "chin to vertex": float(height),
        "head breadth": float(np.ptp(v[scalp][v[scalp, 1] > 30][:, 0])),
        "head length": float(v[9, 2] - v[scalp, 2].min()),
        "face breadth at the cheekbones": float(v[454, 0] - v[234, 0]),
        "sellion to chin": float(v[168, 1] - v[152, 1]),
        "mouth breadth": float(v[291, 0] - v[61, 0]),
        "nose breadth": float(v[358, 0] - v[129, 0]),
        "ear length": float(np.ptp(v[model.regions["left_ear"].numpy(), 1])),
    }


def variation_mm(model: HeadModel) -> dict[str, float]:
    """Standard deviations of the shape space."""
    basis = 1000 * model.shape_basis.numpy()
    skin = np.intersect1d(model.regions["face"].numpy(), model.regions["skin"].numpy())
    joints = np.einsum("jv,vks->jks", model.joint_regressor.numpy(), basis)
    chin_to_brow = basis[9, 1] - basis[152, 1]
    return {
        "face vertices (3-D)": float(np.sqrt((basis[skin] ** 2).sum((1, 2)).mean())),
        "inter-pupillary distance": float(np.linalg.norm(joints[3, 0] - joints[4, 0])),
        "glabella to chin": float(np.linalg.norm(chin_to_brow)),
        "face breadth": float(np.linalg.norm(basis[454, 0] - basis[234, 0])),
    }


def _tensor(array: np.ndarray):  # type: ignore[no-untyped-def]
    import torch

    return torch.from_numpy(np.asarray(array, np.float64))


def main() -> None:
    """Prints every figure."""
    model = load_generic()
    lines = [f"vertices {model.vertex_count}, triangles {len(model.triangles)}"]
    lines += [f"{name}: {value:.1f} mm" for name, value in sizes_mm(model).items()]
    lines += [f"standard deviation, {name}: {value:.2f} mm" for name, value in variation_mm(model).items()]
    for yaw in _YAWS_DEG:
        errors = landmark_errors_mm(model, yaw)
        if errors is None:
            lines.append(f"FaceMesh at {yaw} degrees: no face")
        else:
            middle, high = np.percentile(errors, [50, 95])
            lines.append(f"FaceMesh at {yaw} degrees: median {middle:.2f} mm, 95 % {high:.2f} mm")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()

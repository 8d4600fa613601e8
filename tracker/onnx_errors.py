"""What onnxruntime raises over a file that it cannot use."""


def onnx_errors() -> tuple[type[Exception], ...]:
    """The runtime's own exceptions, which have no common base but Exception, and what its callers raise besides."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    own = [kind for kind in vars(state).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    return (*own, RuntimeError, ValueError, OSError)

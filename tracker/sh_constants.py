"""Constants of the nine shading functions of `tracker.shading`, for what draws without torch."""

import math

_C0 = 1 / math.sqrt(4 * math.pi)
_C1 = (2 * math.pi / 3) * math.sqrt(3 / (4 * math.pi))
_C2 = (math.pi / 4) * 3 * math.sqrt(5 / (12 * math.pi))
_C3 = (math.pi / 4) * 1.5 * math.sqrt(5 / (12 * math.pi))
_C4 = (math.pi / 4) * 0.5 * math.sqrt(5 / (4 * math.pi))

SH_CONSTANTS = (_C0, _C1, _C1, _C1, _C2, _C2, _C2, _C3, _C4)

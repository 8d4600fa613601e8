"""`Texels` lives in `tracker.texels`; this name is kept for callers that import it from here."""

from tracker.texels import Texels as Texels

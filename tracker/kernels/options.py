"""How the kernels are compiled."""

# Sums may be reordered and fused; numbers that are not finite stay what they are, so that a failed solve is seen.
FAST = {"reassoc", "contract", "nsz", "arcp"}

"""What is known of cards without asking one: their peak arithmetic."""

from __future__ import annotations

PEAKS = {
    # dense bfloat16 products a second, from the makers' data sheets; matched in this order within a name
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "A100": 312e12,
    "A10G": 70e12,
    "A10": 125e12,
    "L40S": 362e12,
    "L4": 121e12,
    "RTX 4090": 165e12,
    "RTX 3090": 71e12,
    "B200": 2250e12,
    "T4": 8e12,  # float32: the card has no bfloat16
}


def peak_flops(name: str) -> float | None:
    """Dense bfloat16 operations a second of the card with this name, a driver's or ours; None where it is not known."""
    return next((peak for known, peak in PEAKS.items() if known in name), None)

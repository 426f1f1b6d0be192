"""Frozen values as potentials: that of our parents in Drive, and a critic of Stable-Baselines3."""

from pathlib import Path

from affect import Potential, zoo

OWN = Path("runs/logs/bridges/value.safetensors")  # as parent.yaml says

Drive = Potential.from_card(zoo.path("drive-value"))
if OWN.exists():
    SB3 = Potential.from_card(OWN)

"""Bridges: signals of a blend as reward in the training loops of other libraries.

One module a library, imported by whoever uses that library: `affect.bridges.gymnasium`,
`affect.bridges.stable_baselines3` (SBX too) and `affect.bridges.functional` (gymnax, rejax,
PureJaxRL). `affect.transitions_from` reads recorded data. All share `affect.bridges.stepwise`.
"""

"""Parts of `runs.inherit`: parents, carriers, controls, bodies, newborns, tuning, claims, page."""

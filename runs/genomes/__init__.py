"""Parts of `runs.genome`: distillation of all parents, carriers and sizes, results and page."""

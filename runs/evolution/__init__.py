"""Parts of `runs.evolve`: alphabets of a genome, searches, sizes and arms, generations, page."""

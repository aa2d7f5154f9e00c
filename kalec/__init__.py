"""kalec: from a notebook to a pipeline. Imports neither engine nor rokctl."""

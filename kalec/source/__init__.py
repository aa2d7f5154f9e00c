"""Sources: notebooks, percent-format scripts, modules with @step and @pipeline; each becomes cells with tags."""

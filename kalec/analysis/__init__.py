"""What each step needs, makes and changes, and so what travels between steps. Nothing here executes user code."""

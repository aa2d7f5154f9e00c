"""The repository: formats (pure), and the session, restore and check that use them on a store."""

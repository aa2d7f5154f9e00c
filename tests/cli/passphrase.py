"""The passphrase of the repository that tests of the command line have."""

PASSPHRASE = "correct horse 🐴 battery staple"

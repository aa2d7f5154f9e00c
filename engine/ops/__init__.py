"""Use cases, one file each. Here repository and device meet, and nowhere else."""

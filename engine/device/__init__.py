"""The kernel border: the only place with subprocess, ioctl and /dev."""

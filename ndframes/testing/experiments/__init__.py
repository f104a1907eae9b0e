"""Fault-injection and stress experiments on the cache: crashes, races, full disks, power loss, bit rot."""

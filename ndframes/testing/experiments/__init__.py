"""Experiments that stress the cache: kills, races, full disks, damage."""

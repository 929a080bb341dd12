"""Tests of sweeps: their pure parts by tables, and whole sweeps of the example app through its command line."""

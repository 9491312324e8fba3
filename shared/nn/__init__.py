"""Layers and formulas that know no file: transformer stream, attention, rotary positions, clock, flow."""

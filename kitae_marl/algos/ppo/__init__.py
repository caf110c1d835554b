"""Proximal policy optimisation: IPPO and MAPPO."""

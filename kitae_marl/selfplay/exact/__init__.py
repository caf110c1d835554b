"""Exact answers in small games: best responses, equilibria, what a policy gets at worst."""

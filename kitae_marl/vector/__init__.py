"""This room steps many copies of a game together; importing any of it imports no JAX.

``protocol`` says what training and evaluation need from a vector of environments; ``make`` makes
one by its id; ``workers`` step games in processes, ``stepping`` is what happens inside one of them;
``lean`` builds PettingZoo's games without the wrappers that only check; ``adapters`` are vectors of
other kinds; ``catalogue`` says what games there are and whether one behaves.
"""

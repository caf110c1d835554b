"""This room steps many copies of a game together; importing any of it imports no JAX.

``protocol`` says what training and evaluation need from a vector of environments; ``make`` makes
one by its id; ``workers`` step games in processes, ``stepping`` is what happens inside one of them;
``lean`` builds PettingZoo's games without the wrappers that only check; ``adapters`` are vectors of
other kinds; ``catalogue`` says what games there are and whether one behaves.

One step of ``SubProcVecParallelEnv``, file by file. In the parent, ``subproc`` lets ``dicts`` check
the actions and write them into shared memory; ``pool`` lets ``process`` send one short message to
each worker and waits for as many answers; ``dicts`` shows what the workers wrote. In a worker,
``worker`` reads the message and ``servant`` carries it out: ``collector`` steps the games,
``records`` says who is in them, ``observations`` and ``rows`` gather what they returned,
``inspection`` checks it, and at the end it is copied to where ``blocks`` says.
"""

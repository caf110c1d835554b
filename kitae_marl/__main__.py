"""``python -m kitae_marl`` is ``kitae-marl``."""

from kitae_marl.cli import main

if __name__ == "__main__":
    main()

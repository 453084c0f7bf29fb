"""``python -m trigger_prune`` is ``trigger-prune``."""

from trigger_prune.cli import main

if __name__ == "__main__":
    main()

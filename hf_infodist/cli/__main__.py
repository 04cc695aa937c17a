"""``python -m hf_infodist.cli`` is ``infodist``."""

from hf_infodist.cli import main

if __name__ == "__main__":
    main()
